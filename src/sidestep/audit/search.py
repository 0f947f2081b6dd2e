"""Exact nearest neighbours over features that come in blocks: FAISS proposes, float64 decides.

FAISS sums in float32, so what it calls nearest may be off by rounding, and which of two equal rows
it names is chance. Here it only proposes candidates. Their similarities are summed again in float64
and rounded to float32 once, and ties go to the earlier row. A bound on the rounding error says
where FAISS may have left out a row that counts; that query looks at the whole block in float64. So
the answer is that of `similarity.search.nearest` over all rows at once, whatever the blocks.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sidestep.audit.shards import INSTALL, Features
from sidestep.errors import MissingExtra
from sidestep.similarity.base import Vectors

SPARE = 8  # candidates beyond k, so that near-ties seldom need the whole block
PAIRS = 2**10  # pairs compared in float64 at a time: what a cache holds


class Block(NamedTuple):
    """Some rows of an index."""

    first: int  # number of its first row
    rows: Features  # (n, D)


def top(queries: Vectors, blocks: Iterable[Block], k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """The k most similar rows of every query.

    Memory is that of the queries, of one block in float16 and float32, and of about 60 (k + 8)
    bytes per query, whatever the number of blocks.

    Args:
        queries: (Q, D), finite; Q may be 0.
        blocks: in rising order of their rows, with at least k rows together.
        k: at least 1.

    Returns:
        Similarities (Q, k), falling, and row numbers (Q, k).

    Raises:
        MissingExtra: FAISS is not installed.
    """
    faiss, every = engine(), np.arange(len(queries))[:, None]
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    numbers = np.full((len(queries), k), -1, dtype=np.int64)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    for block in blocks:
        if not len(block.rows) or not len(queries):
            continue
        rows, most = widen(block.rows), min(k + SPARE, len(block.rows))
        near, at = faiss.knn(queries, rows, most, metric=faiss.METRIC_INNER_PRODUCT)
        slack = error(queries, rows)[:, None]
        # Only what can still enter is worth a float64 sum.
        worst = best[:, -1:] if most < k else np.maximum(best[:, -1:], near[:, k - 1 : k] - slack)
        alive = near >= worst - slack
        scores = np.full(near.shape, -np.inf, dtype=np.float32)
        query, place = np.nonzero(alive)
        scores[query, place] = similarities(queries, rows, query, at[query, place])
        together = np.concatenate([best, scores], axis=1)
        named = np.concatenate([numbers, at + block.first], axis=1)
        order = np.lexsort((named, -together), axis=1)[:, :k]
        best, numbers = together[every, order], named[every, order]
        if most < len(rows):
            # The worst candidate bounds every row that FAISS left out.
            unsure = np.flatnonzero(near[:, -1] + slack[:, 0] >= best[:, -1])
            if len(unsure):
                best[unsure], numbers[unsure] = _whole(
                    queries[unsure], rows, block.first, best[unsure], numbers[unsure]
                )
    return best, numbers


def _whole(
    queries: Vectors, rows: Vectors, first: int, best: Vectors, numbers: NDArray[np.int64]
) -> tuple[Vectors, NDArray[np.int64]]:
    """The k best of what is known and of every row of a block, each query by itself."""
    best, numbers, k = best.copy(), numbers.copy(), best.shape[1]
    wide = rows.astype(np.float64)
    for one, query in enumerate(queries):
        scores = (wide @ query.astype(np.float64)).astype(np.float32)
        # What is known of this block is in the scores too.
        before = (numbers[one] < first) & (numbers[one] >= 0)
        together = np.concatenate([best[one][before], scores])
        named = np.concatenate([numbers[one][before], np.arange(first, first + len(rows))])
        order = np.lexsort((named, -together))[:k]
        best[one, : len(order)], numbers[one, : len(order)] = together[order], named[order]
    return best, numbers


def similarities(
    queries: Vectors, rows: Vectors, query: NDArray[np.int64], row: NDArray[np.int64]
) -> Vectors:
    """Similarities (n,) of n pairs of a query and a row, summed in float64, rounded once."""
    result = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), PAIRS):
        part = slice(start, start + PAIRS)
        a, b = queries[query[part]].astype(np.float64), rows[row[part]].astype(np.float64)
        result[part] = np.einsum("nd,nd->n", a, b)
    return result


def error(queries: Vectors, rows: Vectors) -> NDArray[np.float64]:
    """How far a float32 dot product of each query with any row may be off, (Q,).

    D products and D - 1 sums, each off by half a unit in the last place, in any order: at most
    D u / (1 - D u) times the product of the lengths, u = 2^-24 (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, section 3.1), and u more for the rounding of what is compared to.
    """
    units = (rows.shape[1] + 2) * 2.0**-24
    longest = np.sqrt(np.einsum("nd,nd->n", rows, rows).max(initial=0.0))
    lengths = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    # The lengths are float32 sums themselves: one part in a thousand covers them.
    bound: NDArray[np.float64] = 1.001 * units / (1 - units) * lengths.astype(np.float64) * longest
    return bound


def widen(rows: Features) -> Vectors:
    """Rows as float32; torch has the vector instructions for it that numpy lacks."""
    wide: Vectors = torch.from_numpy(rows).float().numpy()
    return wide


def engine() -> Any:
    """The package faiss; MissingExtra where it is not installed."""
    if find_spec("faiss") is None:
        raise MissingExtra("faiss-cpu", INSTALL, "searching an index")
    import faiss

    return faiss
