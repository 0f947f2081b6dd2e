"""Searching in blocks through FAISS is brute force in float64, to the bit."""

import numpy as np
import pytest

from sidestep.audit import search
from sidestep.similarity.search import nearest

pytest.importorskip("faiss")


def unit(n, width=32, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def blocks(rows, size):
    return [search.Block(i, rows[i : i + size]) for i in range(0, len(rows), size)]


def equal(queries, rows, k, size):
    found = search.top(queries, blocks(rows, size), k)
    expected = nearest(queries, rows.astype(np.float32), k)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_it_is_brute_force_whatever_the_blocks(k, size):
    rows, queries = unit(300), unit(21, seed=1).astype(np.float32)
    equal(queries, rows, k, size)


@pytest.mark.parametrize("copies", [9, 50, 299])
def test_equal_rows_tie_and_the_earliest_come_first(copies):
    # More equal rows than FAISS is asked for: which of them it names is chance.
    rows = unit(300)
    rows[np.random.default_rng(2).permutation(300)[:copies]] = rows[0]
    queries = np.concatenate([rows[:1], rows[250:260]]).astype(np.float32)
    equal(queries, rows, 5, 64)


def test_near_ties_are_told_apart_where_float32_cannot():
    # One step of float16 in one of 512 numbers: sums in float32 are off by more.
    row = unit(1, 512)[0]
    rows = np.repeat(row[None], 200, axis=0)
    for i, one in enumerate(rows):
        one[i] = np.nextafter(one[i], np.float16(0))
    equal(row[None].astype(np.float32), rows, 7, 64)


def test_zero_rows_and_zero_queries_are_similar_to_nothing():
    rows = unit(60)
    rows[::3] = 0
    queries = np.concatenate([np.zeros((1, 32)), unit(3, seed=1)]).astype(np.float32)
    equal(queries, rows, 4, 16)


def test_no_query_finds_nothing():
    scores, numbers = search.top(np.empty((0, 32), np.float32), blocks(unit(20), 7), 3)
    assert scores.shape == numbers.shape == (0, 3)


def test_the_bound_on_rounding_holds_and_is_not_idle():
    # Rows of one sign, because there rounding errors add up.
    rows = np.abs(unit(500, 512)).astype(np.float32)
    queries = np.abs(unit(50, 512, seed=1)).astype(np.float32)
    exact = queries.astype(np.float64) @ rows.T.astype(np.float64)
    summed = np.zeros((50, 500), np.float32)
    for column in range(512):  # the worst order: one after the other
        summed += queries[:, column, None] * rows[None, :, column]
    off = np.abs(summed - exact).max(axis=1)
    bound = search.error(queries, rows)
    assert (off <= bound).all()
    assert (off > bound / 1000).all()


def test_rows_are_read_one_block_at_a_time():
    rows, open_blocks = unit(300), []

    def stream():
        for block in blocks(rows, 50):
            open_blocks.append(block.first)
            yield block

    search.top(unit(2, seed=1).astype(np.float32), stream(), 3)
    assert open_blocks == [0, 50, 100, 150, 200, 250]


@pytest.mark.parametrize("copies", [9, 50, 299])
def test_it_does_not_depend_on_which_equal_rows_faiss_names(monkeypatch, copies):
    faiss = search.engine()

    class Backwards:
        """FAISS that sees the rows from the last to the first, and so prefers the last."""

        METRIC_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT

        @staticmethod
        def knn(queries, rows, k, metric):
            near, at = faiss.knn(queries, np.ascontiguousarray(rows[::-1]), k, metric=metric)
            return near, len(rows) - 1 - at

    monkeypatch.setattr(search, "engine", lambda: Backwards)
    rows = unit(300)
    rows[np.random.default_rng(2).permutation(300)[:copies]] = rows[0]
    queries = np.concatenate([rows[:1], rows[250:260]]).astype(np.float32)
    for size in (64, 300):
        equal(queries, rows, 5, size)
