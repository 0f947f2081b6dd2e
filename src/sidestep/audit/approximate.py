"""Approximate search through FAISS, on request: what it finds is exact, what it misses is measured.

FAISS proposes rows; their similarities are then summed exactly. Every answer carries the recall
that this search had on planted copies of the same index in the same run.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidestep.audit.blocks import even
from sidestep.audit.index import Found, Index, check
from sidestep.audit.recall import Level, recall
from sidestep.audit.search import Numbers, merged, similarities
from sidestep.audit.shards import INSTALL
from sidestep.errors import MissingExtra, SidestepError
from sidestep.runs import marks
from sidestep.similarity.base import Vectors

LEAST = 1000  # pictures; below, there is too little to train on and nothing to gain
SAMPLE = 65_536  # rows trained on at most
VISITED = 64  # lists of a pruned search
Way = Callable[[int, int], tuple[str, int]]


def compressed(dimension: int, count: int) -> tuple[str, int]:
    """Every row is looked at, as a code of 4 bits for about 4 numbers (product quantization).

    Source: Jegou, Douze, Schmid, IEEE TPAMI, 2011; Andre, Kermarrec, Le Scouarnec, VLDB, 2015.
    """
    parts = next(m for m in range(max(1, dimension // 4), 0, -1) if dimension % m == 0)
    return f"PQ{parts}x4fs", 0


def pruned(dimension: int, count: int) -> tuple[str, int]:
    """Rows in float16, in lists around centres; only the 64 nearest lists are looked at."""
    lists = max(1, min(int(4 * count**0.5), count // _step(count) // 39))
    return f"IVF{lists},SQfp16", min(VISITED, lists)


WAYS: dict[str, Way] = {"compressed": compressed, "pruned": pruned}


class Answer(NamedTuple):
    """What an approximate search found, and how much it finds."""

    found: Found  # similarities are exact
    recall: tuple[Level, ...]


@dataclass(frozen=True)
class Approximate:
    """An approximate search of one index: `Approximate.of(index, "compressed")`."""

    index: Index
    structure: Any  # of FAISS, holding all rows

    @classmethod
    def of(cls, index: Index, way: str, cache: Path | None = None) -> "Approximate":
        """Make the FAISS structure from the shards, or take it from a folder of one's own.

        Args:
            index: to be searched; of at least 1000 pictures.
            way: "compressed" or "pruned".
            cache: where the structure is kept. FAISS trusts what it reads: let nobody else write
                there. A file that does not fit its mark or the index is made again.

        Raises:
            MissingExtra: FAISS is not installed.
            SidestepError: the index is too small.
        """
        if way not in WAYS:
            raise ValueError(f"way is {way}; it must be one of {', '.join(WAYS)}")
        faiss, count = _faiss(), len(index.ids)
        if count < LEAST:
            raise SidestepError(
                f"the index has {count} pictures; approximate search needs {LEAST}, and exact "
                "search of so few takes no time: leave the option out"
            )
        key, visited = WAYS[way](index.settings.dimension, count)
        done = hashlib.sha256(f"{index.hash} {key} {faiss.__version__}".encode()).hexdigest()
        name = f"{done[:16]}.faiss"
        mark = f"{name}.json"
        if cache is not None and marks.holds(cache, mark, done):
            data = marks.get(cache, marks.files(cache, mark, done)[0])
            structure = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        else:
            structure = _filled(faiss, index, key)
            if cache is not None:
                file = marks.put(cache, name, faiss.serialize_index(structure).tobytes())
                marks.vouch(cache, mark, done, [file])
        if visited:
            structure.nprobe = visited
        return cls(index, structure)

    def search(self, features: Vectors, k: int = 1) -> Answer:
        """The k most similar of the pictures that FAISS proposes, and the recall of doing so.

        Args:
            features: (Q, D), from the recipe of the index.
            k: 1..N.

        Raises:
            ValueError: as `Index.search`.
            SidestepError: FAISS proposed fewer than k pictures for a query.
        """
        check(features, self.index.settings.dimension)
        if not 1 <= k <= len(self.index.ids):
            raise ValueError(f"k is {k}; it must lie in 1..{len(self.index.ids)}")
        similarity, rows = self._ranked(features, k)
        found = Found(similarity, self.index.ids[rows])
        return Answer(found, recall(self.index, lambda q: self._ranked(q, k)[1]))

    def _ranked(self, features: Vectors, k: int) -> tuple[Vectors, Numbers]:
        """The k best of what FAISS proposes by exact similarity; other shards are not read."""
        queries = np.ascontiguousarray(features, dtype=np.float32)
        most = min(len(self.index.ids), max(100, 10 * k))
        _, proposed = self.structure.search(queries, most)
        query, place = np.nonzero(proposed >= 0)
        if len(queries) and np.bincount(query, minlength=len(queries)).min() < k:
            raise SidestepError(
                f"the approximate search proposed fewer than {k} pictures for an image; ask for "
                "fewer, or search exactly"
            )
        row, starts = proposed[query, place], self.index.starts
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        numbers = np.full((len(queries), k), -1, dtype=np.int64)
        shard = np.searchsorted(starts, row, side="right") - 1
        for one in np.unique(shard).tolist():
            at = np.flatnonzero(shard == one)
            for block in self.index.rows(slice(one, one + 1)):
                scores = similarities(queries, block.rows, query[at], row[at] - starts[one])
                best, numbers = merged(best, numbers, query[at], scores, row[at])
        return best, numbers


def _filled(faiss: Any, index: Index, key: str) -> Any:
    structure = faiss.index_factory(index.settings.dimension, key, faiss.METRIC_INNER_PRODUCT)
    step = _step(len(index.ids))
    structure.train(
        np.concatenate([b.rows[-b.first % step :: step] for b in index.rows()]).astype(np.float32)
    )
    for block in even(index.rows()):
        structure.add(block.rows.astype(np.float32))
    return structure


def _step(count: int) -> int:
    """Every how many rows one is trained on: evenly, because neighbours are often alike."""
    return -(-count // SAMPLE)


def _faiss() -> Any:
    if find_spec("faiss") is None:
        raise MissingExtra("faiss-cpu", INSTALL, "approximate search")
    import faiss

    return faiss
