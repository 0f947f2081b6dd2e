"""Searching in blocks by fast products is brute force in float64, to the bit."""

import numpy as np
import pytest
import torch

from sidestep.audit import blocks as cutting
from sidestep.audit import search
from sidestep.audit.blocks import Block
from sidestep.similarity.search import nearest

KINDS = (torch.bfloat16, torch.float32)


@pytest.fixture(autouse=True, params=[4, 64, 2**24])
def block_rows(request, monkeypatch):
    """Rows of 32 numbers compared at once: few, so that small searches have many blocks."""
    monkeypatch.setattr(cutting, "BYTES", 4 * 32 * request.param)
    monkeypatch.setattr(search, "QUERIES", 8)
    return request.param


def unit(n, width=32, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def blocks(rows, size):
    return [Block(i, rows[i : i + size]) for i in range(0, len(rows), size)]


def equal(queries, rows, k, size):
    expected = nearest(queries, rows.astype(np.float32), k)
    for kind in KINDS:
        found = search.top(queries, blocks(rows, size), k, kind)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_it_is_brute_force_whatever_the_blocks(k, size):
    rows, queries = unit(300), unit(21, seed=1).astype(np.float32)
    equal(queries, rows, k, size)
    equal(-queries, rows, k, size)


@pytest.mark.parametrize("copies", [9, 50, 299])
def test_equal_rows_tie_and_the_earliest_come_first(copies):
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


def test_rows_that_come_nearer_and_nearer():
    # Every row enters when it comes, and similarities below zero have another order of bits.
    query = unit(1)[0].astype(np.float64)
    rows = np.linspace(-1, 1, 200)[:, None] * query + 0.01 * unit(200, seed=3)
    equal(query[None].astype(np.float32), rows.astype(np.float16), 6, 50)
    equal(query[None].astype(np.float32), rows[:90].astype(np.float16), 6, 50)


def test_zero_rows_and_zero_queries_are_similar_to_nothing():
    rows = unit(60)
    rows[::3] = 0
    queries = np.concatenate([np.zeros((1, 32)), unit(3, seed=1)]).astype(np.float32)
    equal(queries, rows, 4, 16)


def test_lengths_may_be_far_from_one():
    chance = np.random.default_rng(4)
    rows = (unit(200) * chance.choice([1e-3, 1, 1e3], 200)[:, None]).astype(np.float16)
    scale = np.array([1e-41, 1e-37, 1, 1e20, 1e33])[:, None]
    with np.errstate(over="ignore"):
        equal((unit(5, seed=1) * scale).astype(np.float32), rows, 5, 30)


def test_no_query_finds_nothing():
    scores, numbers = search.top(np.empty((0, 32), np.float32), blocks(unit(20), 7), 3)
    assert scores.shape == numbers.shape == (0, 3)


def test_blocks_are_put_together_and_cut_without_losing_a_row(block_rows):
    rows = unit(300)
    came = [Block(i, rows[i:j]) for i, j in ((0, 1), (1, 1), (1, 90), (90, 170), (170, 300))]
    made = list(cutting.even(came))
    np.testing.assert_array_equal(np.concatenate([b.rows for b in made]), rows)
    sizes = [len(b.rows) for b in made]
    assert set(sizes[:-1]) <= {block_rows} and sizes[-1] <= block_rows
    assert [b.first for b in made] == np.cumsum([0, *sizes[:-1]]).tolist()


def test_no_more_than_the_next_block_is_read_ahead():
    made, used = [], 0

    def stream():
        for number in range(20):
            made.append(number)
            yield number

    for number in cutting.ahead(stream()):
        used += 1
        assert number == used - 1 and len(made) <= used + 1
    assert used == 20


def test_what_fails_in_the_thread_is_raised():
    def stream():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(cutting.ahead(stream()))
