"""A data set of the Hub, read through the package `datasets` where the user has installed it."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from sidestep.errors import BadData, MissingExtra
from sidestep.sources.base import Columns, Item
from sidestep.sources.table import columns_of, image_bytes

NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # OWNER/NAME or OWNER/NAME:SPLIT


class DataSet:
    """One split of a data set, `train` unless the name says another after a colon.

    The package takes it from its local cache or fetches it. Images stay encoded: decoding is done
    where it is guarded.
    """

    def __init__(self, name: str, columns: Columns) -> None:
        if find_spec("datasets") is None:
            purpose = f"{name} is no path here, and reading it as a data set of the Hub"
            raise MissingExtra("datasets", "Install with: pip install datasets", purpose)
        import datasets

        owner, _, split = name.partition(":")
        loaded: Any = datasets.load_dataset(owner, split=split or "train")
        self._image, self._caption = columns_of(loaded.column_names, columns, name)
        if not isinstance(loaded.features[self._image], datasets.Image):
            raise BadData(f"{name}: column {self._image!r} holds no images; name another one")
        self._rows = loaded.cast_column(self._image, datasets.Image(decode=False))

    def count(self) -> int:
        """Rows."""
        return len(self._rows)

    def items(self) -> Iterator[Item]:
        """In the order of the rows, which number the items from 0."""
        for number, row in enumerate(self._rows):
            text = row[self._caption] if self._caption else None
            data = image_bytes(row[self._image])
            yield Item(str(number), data, text if isinstance(text, str) else None)
