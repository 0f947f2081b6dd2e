"""Exact nearest neighbours by dot product, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

from sidestep.similarity.base import Vectors


def nearest(
    queries: Vectors, references: Vectors, k: int = 1, chunk: int = 2048
) -> tuple[Vectors, NDArray[np.int64]]:
    """The k most similar references of every query.

    Products are summed in float64 and rounded to float32 once, so that equal references tie
    whatever block they fall in; a tie goes to the lowest index.

    Args:
        queries: (N, D), N may be 0.
        references: (M, D).
        k: 1..M; time grows with it.
        chunk: rows of each compared at a time; memory is about 8 chunk^2 bytes whatever N and M.

    Returns:
        Similarities (N, k), float32, falling, and the rows of `references` they belong to (N, k).

    Raises:
        ValueError: shapes do not fit, k is out of range or a value is not finite.
    """
    _check(queries, references, k, chunk)
    scores = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    for first in range(0, len(queries), chunk):
        rows = slice(first, first + chunk)
        scores[rows], indices[rows] = _search(
            queries[rows].astype(np.float64), references, k, chunk
        )
    return scores, indices


def _search(
    queries: NDArray[np.float64], references: Vectors, k: int, chunk: int
) -> tuple[Vectors, NDArray[np.int64]]:
    n = len(queries)
    best = np.full((n, k), -np.inf, dtype=np.float32)
    index = np.full((n, k), -1, dtype=np.int64)
    every = np.arange(n)
    for first in range(0, len(references), chunk):
        block = references[first : first + chunk].astype(np.float64)
        # The best so far come first: they have the lower indices, and argmax takes the first.
        scores = np.concatenate([best, (queries @ block.T).astype(np.float32)], axis=1)
        numbers = np.arange(first, first + len(block))
        index_of = np.concatenate([index, np.broadcast_to(numbers, (n, len(block)))], axis=1)
        for place in range(k):
            at = scores.argmax(axis=1)
            best[:, place], index[:, place] = scores[every, at], index_of[every, at]
            scores[every, at] = -np.inf
    return best, index


def _check(queries: Vectors, references: Vectors, k: int, chunk: int) -> None:
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise ValueError(
            f"queries came as {queries.shape} and references as {references.shape}; both must be "
            "rows of the same length. Embed both with the same recipe."
        )
    if not 1 <= k <= len(references):
        raise ValueError(f"k is {k}; it must lie in 1..{len(references)}, the number of references")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1 row")
    for name, rows in (("queries", queries), ("references", references)):
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} hold values that are not finite; embed the pictures again.")
