"""Exact nearest neighbours over features in blocks: fast products rule out, float64 decides.

`products` are off by rounding, by no more than a bound that is known. Here they only say which rows
cannot be among the nearest. The similarities of all others are summed in float64 and rounded to
float32 once, and ties go to the earlier row. So the answer is that of `similarity.search.nearest`
over all rows at once, whatever the blocks and whatever the processor.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from sidestep.audit.blocks import Block, ready
from sidestep.audit.products import Float64, Rounded, error, fastest, products, reach
from sidestep.audit.shards import Features
from sidestep.similarity.base import Vectors

Numbers = NDArray[np.int64]
QUERIES = 512  # compared with a block at a time, so that the products stay in a cache
CROWDED = 4  # candidates per wanted one from which on it pays to look for the k-th
PAIRS = 2**10  # pairs compared in float64 at a time: what a cache holds


def top(
    queries: Vectors, blocks: Iterable[Block], k: int, kind: torch.dtype | None = None
) -> tuple[Vectors, Numbers]:
    """The k most similar rows of every query.

    Memory is that of the queries twice, of two blocks of `blocks.BYTES`, of one block that came and
    of 12 k bytes per query, whatever the number of blocks.

    Args:
        queries: (Q, D), finite; Q may be 0.
        blocks: in rising order of their rows, with at least k rows together.
        k: at least 1.
        kind: in which products are made; None = `products.fastest`. The answer is the same.

    Returns:
        Similarities (Q, k), falling, and row numbers (Q, k).
    """
    kind = fastest(len(queries)) if kind is None else kind
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    numbers = np.full((len(queries), k), -1, dtype=np.int64)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    rounded = Rounded.of(queries, kind)
    parts = [slice(i, i + QUERIES) for i in range(0, len(queries), QUERIES)]
    for block in ready(blocks, kind):
        for part in parts:
            worst = best[part, -1].astype(np.float64)
            query, row = candidates(rounded.part(part), block.rounded, worst, k)
            scores = similarities(queries[part], block.rows, query, row)
            # A tie goes to the earlier row, and that is known already.
            enter = scores > worst[query]
            best[part], numbers[part] = merged(
                best[part], numbers[part], query[enter], scores[enter], row[enter] + block.first
            )
    return best, numbers


def candidates(queries: Rounded, rows: Rounded, worst: Float64, k: int) -> tuple[Numbers, Numbers]:
    """Every pair (query, row) that may be one of the k best of its query and better than `worst`.

    Args:
        queries: Q of them.
        rows: a block.
        worst: (Q,), similarity that has to be reached; -inf where every row does.
        k: at least 1.

    Returns:
        Two arrays (n,): queries, rising, and rows, rising within a query.
    """
    scores, off = products(queries, rows), error(queries, rows)
    bound = worst - off
    near = reach(scores, bound)
    if k < scores.shape[1] and np.count_nonzero(near) > CROWDED * k * len(near):
        crowded = np.flatnonzero(near.sum(axis=1) > CROWDED * k)
        of = scores[torch.from_numpy(crowded)]
        # k rows are as good as the k-th product less its error, so no other row need be worse.
        last = of.float().topk(k, dim=1).values[:, -1].double().numpy()
        bound[crowded] = np.maximum(bound[crowded], last - 2 * off[crowded])
        near[crowded] = reach(of, bound[crowded])
    query, row = np.divmod(np.flatnonzero(near), scores.shape[1])
    return query, row


def merged(
    best: Vectors, numbers: Numbers, query: Numbers, scores: Vectors, rows: Numbers
) -> tuple[Vectors, Numbers]:
    """The k best of what is known (Q, k) and of n more pairs; ties go to the earlier row."""
    best, numbers, k = best.copy(), numbers.copy(), best.shape[1]
    touched, at = np.unique(query, return_inverse=True)
    of = np.concatenate([np.repeat(np.arange(len(touched)), k), at])
    together = np.concatenate([best[touched].ravel(), scores])
    named = np.concatenate([numbers[touched].ravel(), rows])
    order = np.lexsort((named, -together, of))
    starts = np.searchsorted(of[order], np.arange(len(touched)))
    chosen = order[starts[:, None] + np.arange(k)]
    best[touched], numbers[touched] = together[chosen], named[chosen]
    return best, numbers


def similarities(
    queries: Vectors, rows: Features | Vectors, query: Numbers, row: Numbers
) -> Vectors:
    """Similarities (n,) of n pairs of a query and a row, summed in float64, rounded once."""
    result = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), PAIRS):
        part = slice(start, start + PAIRS)
        a, b = queries[query[part]].astype(np.float64), torch.from_numpy(rows[row[part]])
        result[part] = np.einsum("nd,nd->n", a, b.float().double().numpy())
    return result
