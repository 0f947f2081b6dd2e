"""Near-duplicates inside a training set: how many copies each picture has.

Duplication drives memorization (Somepalli et al., NeurIPS 2023; Webster et al., 2023), so findings
are read by how often a picture was in the training set.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.blocks import Ready, even, ready
from sidestep.audit.index import Index
from sidestep.audit.products import error, fastest, products, reach
from sidestep.audit.search import QUERIES, similarities

Report = Callable[[str, int, int], None]
LEVELS = (1, 2, 3, 5, 10, 30, 100)  # where a level begins; it ends before the next


class Pairs(NamedTuple):
    """Near-duplicates, each pair once: numbers of rows."""

    one: NDArray[np.int64]  # (P,)
    other: NDArray[np.int64]  # (P,)


def copies(
    index: Index, similarity: float, report: Report = lambda task, done, total: None
) -> NDArray[np.int64]:
    """How often each picture is in the set, itself included: (N,), in the order of the rows.

    Args:
        index: the training set.
        similarity: from here on two pictures are near-duplicates, as `pairs` says.
        report: told how many blocks have been compared with all others.

    Raises:
        ValueError: similarity is out of range.
    """
    count = np.ones(len(index.ids), dtype=np.int64)
    for found in pairs(index, similarity, report):
        np.add.at(count, found.one, 1)
        np.add.at(count, found.other, 1)
    return count


def pairs(
    index: Index, similarity: float, report: Report = lambda task, done, total: None
) -> Iterator[Pairs]:
    """Every pair of near-duplicates, those of two shards at a time.

    Two pictures are near-duplicates if their similarity is at least `similarity`, summed in float64
    and rounded to float32. Every pair is compared, so the time grows with N^2; in memory are a few
    blocks of `blocks.BYTES` and the pairs found between two of them.

    Args:
        index: the training set.
        similarity: of the index's recipe, above 0 and at most 1.
        report: told how many blocks have been compared with all others.

    Raises:
        ValueError: similarity is out of range.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; it must lie above 0 and at most at 1")
    kind, total = fastest(QUERIES), sum(1 for _ in even(index.rows()))
    for number, block in enumerate(ready(index.rows(), kind)):
        # A pair is found once, where its later block comes second.
        yield from _pairs(block, islice(ready(index.rows(), kind), number, None), similarity)
        report("blocks", number + 1, total)


def _pairs(block: Ready, others: Iterable[Ready], similarity: float) -> Iterator[Pairs]:
    queries = block.rows.astype(np.float32)
    for other in others:
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            rounded = block.rounded.part(part)
            scores, off = products(rounded, other.rounded), error(rounded, other.rounded)
            # Half a unit in the last place of float32 more, to which similarities are rounded.
            near = reach(scores, similarity - off - np.finfo(np.float32).eps)
            query, row = np.nonzero(near)
            close = scores.float().numpy()[query, row].astype(np.float64)
            pair = close >= similarity + off[query] + np.finfo(np.float32).eps
            unsure = np.flatnonzero(~pair)
            exact = similarities(queries[part], other.rows, query[unsure], row[unsure])
            pair[unsure] = exact >= np.float32(similarity)
            first, second = query[pair] + block.first + start, row[pair] + other.first
            later = second > first  # in a block with itself, a pair is there twice
            yield Pairs(first[later], second[later])


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
