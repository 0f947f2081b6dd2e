"""Near-duplicates inside a training set: how many copies each picture has.

Duplication drives memorization (Somepalli et al., NeurIPS 2023; Webster et al., 2023), so findings
are read by how often a picture was in the training set.
"""

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.index import Index
from sidestep.audit.search import Block, engine, error, similarities, widen

LEVELS = (1, 2, 3, 5, 10, 30, 100)  # where a level begins; it ends before the next


def copies(
    index: Index,
    similarity: float,
    report: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> NDArray[np.int64]:
    """How often each picture is in the set, itself included: (N,), in the order of the rows.

    Two pictures are near-duplicates if their similarity is at least `similarity`, summed in float64
    and rounded to float32. Every pair is compared, so the time grows with N^2; in memory are two
    shards and the pairs found between them.

    Args:
        index: the training set.
        similarity: of the index's recipe, above 0 and at most 1.
        report: told how many shards have been compared with all others.

    Raises:
        ValueError: similarity is out of range.
        MissingExtra: FAISS is not installed.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; it must lie above 0 and at most at 1")
    count = np.ones(len(index.ids), dtype=np.int64)
    total = sum(1 for _ in index.rows())
    for number, block in enumerate(index.rows()):
        # A pair is found once, where its later shard comes second.
        _count(block, islice(index.rows(), number, None), similarity, count)
        report("shards", number + 1, total)
    return count


def _count(
    block: Block, others: Iterable[Block], similarity: float, count: NDArray[np.int64]
) -> None:
    faiss, queries = engine(), widen(block.rows)
    for other in others:
        if not len(queries) or not len(other.rows):
            continue
        rows = widen(other.rows)
        slack = error(queries, rows)
        # The loosest bound for all; what lies within it is summed again in float64.
        lowest = similarity - slack.max() - np.finfo(np.float32).eps
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        ends, near, at = flat.range_search(queries, float(lowest))
        query = np.repeat(np.arange(len(queries)), np.diff(ends.astype(np.int64)))
        unsure = np.flatnonzero(near < similarity + slack[query])
        near[unsure] = similarities(queries, rows, query[unsure], at[unsure])
        pair = near >= np.float32(similarity)
        if other.first == block.first:
            pair &= at > query
        np.add.at(count, query[pair] + block.first, 1)
        np.add.at(count, at[pair] + other.first, 1)


def levels(count: NDArray[np.int64]) -> dict[str, int]:
    """Pictures by how often they are in the set: "1", "2", "3-4" and so on, empty ones left out."""
    ends = [*(n - 1 for n in LEVELS[1:]), None]
    found = {}
    for low, high in zip(LEVELS, ends, strict=True):
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        pictures = int(((count >= low) & (count <= (high or count.max(initial=0)))).sum())
        if pictures:
            found[name] = pictures
    return found
