"""Shards of an index: features of some pictures as float16 .npy, a Parquet side file, a done-mark.

A shard's files carry the start of their hash in their names, and its mark names them. So a shard is
replaced by writing new files and then one mark: at any moment the mark names whole files.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import BadRecords, MissingExtra
from sidestep.runs import marks
from sidestep.runs.marks import File

Features = NDArray[np.float16]
Status = Literal["ok", "unreadable"]
FOLDER = "shards"
INSTALL = "Install with: pip install 'sidestep[audit]'"


class Picture(NamedTuple):
    """A training picture as the side files keep it."""

    id: str  # 24 hex digits of path and bytes: other bytes or another place, another id
    path: str  # in the collection
    sha256: str  # of the encoded bytes; empty where there were none
    size: int  # bytes
    status: Status  # the ok pictures of a side file are the rows of the features, in this order
    reason: str  # why it is unreadable, or empty
    caption: str | None


class Shard(NamedTuple):
    """The files of a shard, as its mark vouches for them."""

    number: int
    features: File
    side: File

    @property
    def mark(self) -> str:
        """Its mark, relative to the index."""
        return mark_of(self.number)


def identify(path: str, sha256: str) -> str:
    """The stable id of those bytes at that place."""
    return hashlib.sha256(f"{path}\0{sha256}".encode()).hexdigest()[:24]


def mark_of(number: int) -> str:
    """The name of a shard's mark, relative to the index."""
    return f"{FOLDER}/{number:08d}.json"


def write(
    out: Path, done: str, number: int, pictures: Sequence[Picture], features: Features
) -> Shard:
    """Write a shard and then its mark, of id `done`. Features (n, D) of the n ok pictures."""
    pyarrow = arrow()
    columns = {name: [getattr(p, name) for p in pictures] for name in Picture._fields}
    kinds = {"size": pyarrow.int64()}
    table = pyarrow.table(
        {n: pyarrow.array(c, kinds.get(n, pyarrow.string())) for n, c in columns.items()}
    )
    side, rows = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(table, side)
    np.save(rows, features, allow_pickle=False)
    files = (_put(out, number, "npy", rows), _put(out, number, "parquet", side))
    shard = Shard(number, *files)
    marks.vouch(out, shard.mark, done, shard[1:])
    return shard


def _put(out: Path, number: int, suffix: str, file: io.BytesIO) -> File:
    data = file.getvalue()
    short = hashlib.sha256(data).hexdigest()[:8]
    return marks.put(out, f"{FOLDER}/{number:08d}-{short}.{suffix}", data)


def find(out: Path, done: str) -> list[Shard]:
    """The shards whose marks are of id `done` and whose files are whole, by number."""
    names = sorted((out / FOLDER).glob("*.json"))
    return [
        named(out, done, int(name.stem))
        for name in names
        if marks.holds(out, f"{FOLDER}/{name.name}", done)
    ]


def named(out: Path, done: str, number: int) -> Shard:
    """The shard of that number as its mark names it; BadRecords without such a mark."""
    features, side = marks.files(out, mark_of(number), done)
    return Shard(number, features, side)


def read_pictures(out: Path, shard: Shard) -> list[Picture]:
    """Every picture of a shard; BadRecords if the file is not what was written."""
    table = arrow().parquet.read_table(io.BytesIO(marks.get(out, shard.side)))
    return [Picture(**row) for row in table.to_pylist()]


def read_features(out: Path, shard: Shard) -> Features:
    """Rows (n, D) of the ok pictures of a shard; BadRecords if they are not what was written."""
    rows: Features = np.load(io.BytesIO(marks.get(out, shard.features)), allow_pickle=False)
    if rows.ndim != 2 or rows.dtype != np.float16:
        raise BadRecords(f"{out / shard.features.name} holds no rows of float16")
    return rows


def sweep(out: Path, keep: Iterable[Shard]) -> None:
    """Remove what no shard of `keep` names: replaced, removed and half-written files."""
    names = {name for s in keep for name in (s.mark, s.features.name, s.side.name)}
    # Marks first: one must never name a file that is gone.
    for path in sorted((out / FOLDER).iterdir(), key=lambda p: p.suffix != ".json"):
        if f"{FOLDER}/{path.name}" not in names:
            os.unlink(path)


def arrow() -> Any:
    """The package pyarrow with its Parquet; MissingExtra where it is not installed."""
    if find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", INSTALL, "an index of training pictures")
    import pyarrow
    import pyarrow.parquet

    return pyarrow
