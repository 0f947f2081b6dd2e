"""An index of training pictures: opened, it gives their ids and rows and finds the nearest.

A folder holds `index.json` (what defines the features), `shards/` and `complete.json`, a done-mark
of all shards' marks: by it a build that was not finished is told from one that was, and its hash
stands for every byte of the index.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sidestep.audit import search
from sidestep.audit.blocks import Block
from sidestep.audit.folders import Folders
from sidestep.audit.shards import Picture, Shard, named, read_features, read_pictures
from sidestep.errors import BadRecords
from sidestep.runs import marks
from sidestep.similarity.base import Recipe, Vectors

SETTINGS = "index.json"
COMPLETE = "complete.json"
VERSION = 2  # of the layout of the folder
FOLDERS = Folders(
    SETTINGS, VERSION, COMPLETE, "is no index of training pictures", "the index", "sidestep index"
)


@dataclass(frozen=True)
class Settings:
    """What defines the features of an index. Features of other settings never compare."""

    recipe: str
    fingerprint: str  # of the recipe's model, if it has one
    side: int  # pixels of the centre square that every picture is resized to
    dimension: int  # numbers of a feature
    pictures_per_shard: int
    tiles: int | None = None  # windows in a row of each picture; None = whole pictures
    version: int = VERSION

    @property
    def id(self) -> str:
        """SHA-256 of all of them."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def text(self) -> str:
        """As they stand in index.json."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings of an index; BadRecords where a folder is none or of another version."""
        return FOLDERS.read(folder, lambda values: cls(**values))


class Found(NamedTuple):
    """The nearest training pictures of some queries."""

    similarity: Vectors  # (Q, k), falling
    ids: NDArray[np.str_]  # (Q, k)


class Index:
    """An index as its last finished build left it.

    Attributes:
        folder: where it is.
        settings: what defines its features.
        hash: SHA-256 that stands for every byte of the index.
    """

    def __init__(
        self, folder: Path, settings: Settings, shards: tuple[Shard, ...], engine: "Engine"
    ) -> None:
        self.folder, self.settings, self._shards, self._engine = folder, settings, shards, engine
        self.hash = hashlib.sha256((folder / COMPLETE).read_bytes()).hexdigest()

    @property
    def ids(self) -> NDArray[np.str_]:
        """The stable ids of the readable pictures, (N,), in the order of the rows."""
        return self._rows[0]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The number of the first row of each of S shards, and then of all rows, (S + 1,)."""
        return self._rows[1]

    @cached_property
    def _rows(self) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
        ids, starts = list[str](), [0]
        for shard in self._shards:
            ids += [p.id for p in read_pictures(self.folder, shard) if p.status == "ok"]
            starts.append(len(ids))
        return np.array(ids, dtype="U24"), np.array(starts, dtype=np.int64)

    def pictures(self) -> Iterator[Picture]:
        """Every picture, unreadable ones included; those that are ok in the order of the rows."""
        for shard in self._shards:
            yield from read_pictures(self.folder, shard)

    def rows(self, part: slice = slice(None)) -> Iterator[Block]:
        """The features, a shard at a time: number of the first row and rows (n, D), float16.

        Rows are counted from the first of these shards: all, or a part of them, without a step.
        Raises BadRecords for a file that is not what the build wrote.
        """
        first = 0
        for shard in self._shards[part]:
            rows = read_features(self.folder, shard)
            yield Block(first, rows)
            first += len(rows)

    def search(self, features: Vectors, k: int = 1, engine: "Engine | None" = None) -> Found:
        """The k most similar pictures of every query, exactly; see `audit.search`.

        Memory is bounded by the queries, a shard and two blocks, whatever the size of the index.

        Args:
            features: (Q, D), from the recipe of this index; pictures framed to its side.
            k: 1..N.
            engine: where it is searched; None = as it was opened.

        Raises:
            ValueError: features of another length or not finite, or k out of range.
            BadRecords: a file is not what the build wrote.
        """
        check(features, self.settings.dimension)
        if not 1 <= k <= len(self.ids):
            raise ValueError(f"k is {k}; it must lie in 1..{len(self.ids)}, the indexed pictures")
        similarity, rows = (engine or self._engine)(self, features, k)
        return Found(similarity, self.ids[rows])

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise BadRecords unless the features are of this recipe."""
        fit(self.folder, self.settings, recipe)


# The k best rows of every query: similarities and row numbers, both (Q, k).
Engine = Callable[[Index, Vectors, int], tuple[Vectors, search.Numbers]]


def here(index: Index, features: Vectors, k: int) -> tuple[Vectors, search.Numbers]:
    """Search in this process."""
    return search.top(features, index.rows(), k)


def open_index(folder: Path | str, engine: Engine = here) -> Index:
    """The index in a folder.

    Args:
        folder: that `build_index` filled.
        engine: where it is searched: in this process, or `audit.on_ray.on_ray(workers)`.

    Raises:
        BadRecords: there is none, its last build was not finished, or a mark was changed since.
    """
    folder = Path(folder)
    settings = Settings.read(folder)
    FOLDERS.check(folder, settings.id)
    numbers = (int(Path(f.name).stem) for f in marks.files(folder, COMPLETE, settings.id))
    return Index(folder, settings, tuple(named(folder, settings.id, n) for n in numbers), engine)


def fit(folder: Path, settings: Settings, recipe: Recipe) -> None:
    """Raise BadRecords unless the features in a folder are of this recipe and model."""
    fingerprint = getattr(recipe, "fingerprint", "")
    if (settings.recipe, settings.fingerprint) != (recipe.name, fingerprint):
        raise BadRecords(
            f"the index in {folder} is of {_named(settings.recipe, settings.fingerprint)}, and "
            f"{_named(recipe.name, fingerprint)} came; their similarities do not compare. Take "
            "that recipe, or index into another folder"
        )


def check(features: Vectors, dimension: int) -> None:
    """Refuse queries that no row can be compared with (ValueError)."""
    if features.ndim != 2 or features.shape[1] != dimension:
        raise ValueError(
            f"features came as {features.shape}; they must be (Q, {dimension}), from the recipe "
            "of the index"
        )
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite; embed the pictures again.")


def _named(recipe: str, fingerprint: str) -> str:
    return f"{recipe} (model {fingerprint[:12]})" if fingerprint else recipe
