"""Parquet files with a column of images: plain bytes, or the {bytes, path} that data sets use."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sidestep.errors import BadData, MissingExtra
from sidestep.sources.base import Columns, Item

CAPTIONS = ("caption", "text")
BATCH = 64  # rows in memory at once
INSTALL = "Install with: pip install 'sidestep[audit]'"


class Tables:
    """The rows of Parquet files, of which only the columns of images and captions are read."""

    def __init__(self, root: Path, files: Sequence[Path], columns: Columns) -> None:
        if find_spec("pyarrow") is None:
            raise MissingExtra("pyarrow", INSTALL, "reading Parquet")
        self.root, self._files, self._columns = root, files, columns

    def count(self) -> int:
        """Rows."""
        return sum(int(self._open(path).metadata.num_rows) for path in self._files)

    def items(self) -> Iterator[Item]:
        """In the order of the files' names and of their rows, which number the items from 0."""
        for path in self._files:
            file, number = self._open(path), 0
            image, said = columns_of(file.schema_arrow.names, self._columns, str(path))
            name = path.relative_to(self.root).as_posix()
            for batch in file.iter_batches(BATCH, columns=[c for c in (image, said) if c]):
                for row in batch.to_pylist():
                    text = row[said] if said else None
                    yield Item(
                        f"{name}/{number}",
                        image_bytes(row[image]),
                        text if isinstance(text, str) else None,
                    )
                    number += 1

    def _open(self, path: Path) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise BadData(f"{path} is no whole Parquet file ({error}); copy it again") from error


def columns_of(names: Sequence[str], wanted: Columns, where: str) -> tuple[str, str | None]:
    """The names of the columns of images and of captions; BadData where one is not there."""
    for name in filter(None, wanted):
        if name not in names:
            raise BadData(
                f"{where} has no column {name!r}; it has {', '.join(names)}. Name the column of "
                "images with --image-column and that of captions with --caption-column"
            )
    return wanted.image, wanted.caption or next((n for n in CAPTIONS if n in names), None)


def image_bytes(cell: Any) -> bytes | str:
    """The encoded image in a cell, or why there is none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else "the row holds no bytes of an image"
