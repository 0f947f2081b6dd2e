"""Recall of an approximate search, measured on planted copies."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sidestep.audit.index import Index
from sidestep.audit.search import Numbers, top
from sidestep.similarity.base import Vectors
from sidestep.similarity.intervals import clopper_pearson

COSINES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
EACH = 100  # planted copies at each cosine


class Level(NamedTuple):
    """What was found of the copies planted at one cosine."""

    cosine: float
    found: int  # whose nearest picture by exact search is in the approximate answer too
    of: int
    low: float  # Clopper-Pearson bounds of the share, 95 %
    high: float


def planted(
    index: Index, cosines: Sequence[float] = COSINES, each: int = EACH, seed: int = 0
) -> tuple[Vectors, Numbers]:
    """Queries at stated cosines to rows of an index, as copies that were disturbed would be.

    A row is drawn, and turned by the angle of the cosine in a direction drawn evenly from those at
    right angles to it. Rows of zeros are not drawn.

    Returns:
        Unit queries (len(cosines) each, D), cosine by cosine, and the rows they were made from.
    """
    if not all(-1 <= c <= 1 for c in cosines) or each < 1:
        raise ValueError(f"cosines are {cosines} and each is {each}; -1..1 and at least 1 must be")
    chance = np.random.default_rng(seed)
    count = len(cosines) * each
    chosen = chance.integers(0, len(index.ids), count)
    rows = taken(index, chosen).astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    kept = np.flatnonzero(length[:, 0])
    if not len(kept):
        raise ValueError("every row drawn is zero, so no copy can be planted")
    fill = np.where(length[:, 0] > 0, np.arange(count), kept[np.arange(count) % len(kept)])
    chosen, rows = chosen[fill], (rows / np.where(length > 0, length, 1))[fill]
    aside = chance.standard_normal(rows.shape)
    aside -= np.einsum("nd,nd->n", aside, rows)[:, None] * rows
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = np.repeat(cosines, each)[:, None]
    return (cosine * rows + np.sqrt(1 - cosine**2) * aside).astype(np.float32), chosen


def taken(index: Index, numbers: Numbers) -> Vectors:
    """The rows of those numbers, (n, D), float32; only their shards are read."""
    made = np.empty((len(numbers), index.settings.dimension), dtype=np.float32)
    shard = np.searchsorted(index.starts, numbers, side="right") - 1
    for one in np.unique(shard).tolist():
        at = np.flatnonzero(shard == one)
        for block in index.rows(slice(one, one + 1)):
            made[at] = block.rows[numbers[at] - index.starts[one]]
    return made


def recall(
    index: Index,
    search: Callable[[Vectors], Numbers],
    cosines: Sequence[float] = COSINES,
    each: int = EACH,
    seed: int = 0,
) -> tuple[Level, ...]:
    """How often a search finds the nearest picture of a planted copy that exact search finds.

    Args:
        index: that is searched.
        search: queries (Q, D) to the rows it found, (Q, any).
        cosines: of the planted copies to their pictures.
        each: copies at each of them.
        seed: of the drawing.
    """
    queries, _ = planted(index, cosines, each, seed)
    _, nearest = top(queries, index.rows(), 1)
    hit = (search(queries) == nearest).any(axis=1).reshape(len(cosines), each).sum(axis=1)
    return tuple(
        Level(cosine, found, each, *clopper_pearson(found, each))
        for cosine, found in zip(cosines, hit.tolist(), strict=True)
    )
