"""Exact search against a sort of every product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestep.similarity.search import nearest


def rows(seed, n, width=6):
    # Small whole numbers: products are exact in any summation order, and ties are common.
    return np.random.default_rng(seed).integers(-2, 3, (n, width)).astype(np.float32)


def brute_force(queries, references, k):
    scores, indices = [], []
    for query in queries:
        pairs = sorted((-float(query @ r), j) for j, r in enumerate(references))[:k]
        scores.append([-s for s, _ in pairs])
        indices.append([j for _, j in pairs])
    return np.array(scores), np.array(indices)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 25),
)
@settings(max_examples=60, deadline=None)
def test_any_chunk_gives_what_a_full_sort_gives_ties_to_the_lowest_index(seed, n, m, k, chunk):
    queries, references = rows(seed, n), rows(seed + 1, m)
    k = min(k, m)
    scores, indices = nearest(queries, references, k, chunk)
    expected_scores, expected_indices = brute_force(queries, references, k)
    assert scores.tolist() == expected_scores.tolist()
    assert indices.tolist() == expected_indices.tolist()


def test_equal_references_tie_wherever_their_block_puts_them():
    r = np.random.default_rng(0)
    unit = r.normal(size=(97, 512))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    references = np.concatenate([unit, unit, unit])
    for chunk in (1, 50, 64, 291):
        scores, indices = nearest(unit, references, 3, chunk)
        assert indices.tolist() == [[i, i + 97, i + 194] for i in range(97)]
        assert (scores == scores[:, :1]).all()


def test_no_queries_give_no_rows():
    scores, indices = nearest(rows(0, 0), rows(1, 3), 2)
    assert scores.shape == indices.shape == (0, 2)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("queries", "references", "k", "chunk", "sentence"),
    [
        (rows(0, 2), rows(1, 3, width=5), 1, 8, "same recipe"),
        (rows(0, 2), rows(1, 3), 4, 8, r"1\.\.3"),
        (rows(0, 2), rows(1, 3), 0, 8, r"1\.\.3"),
        (rows(0, 2), rows(1, 3), 1, 0, "at least 1 row"),
        (rows(0, 2) * np.nan, rows(1, 3), 1, 8, "queries hold"),
        (rows(0, 2), rows(1, 3) + np.inf, 1, 8, "references hold"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, references, k, chunk, sentence):
    with pytest.raises(ValueError, match=sentence):
        nearest(queries, references, k, chunk)
