"""Copies are counted as comparing every pair would count them."""

import numpy as np
import pytest
import torch
from reference.toy_index import Rows

from sidestep.audit import blocks, near_duplicates
from sidestep.audit.near_duplicates import copies, levels


@pytest.fixture(autouse=True, params=[8, 2**24])
def block_rows(request, monkeypatch):
    """Rows of 64 numbers compared at once: few, so that a small set has many blocks."""
    monkeypatch.setattr(blocks, "BYTES", 4 * 64 * request.param)
    monkeypatch.setattr(near_duplicates, "QUERIES", 5)


@pytest.fixture(autouse=True, params=[torch.bfloat16, torch.float32])
def kind(request, monkeypatch):
    monkeypatch.setattr(near_duplicates, "fastest", lambda queries: request.param)


def planted(width=64):
    """120 rows: groups of 30, 7 and 2 that are close, some zero, the rest far apart."""
    chance = np.random.default_rng(0)
    rows = chance.standard_normal((120, width))
    order = chance.permutation(120)
    for start, end in ((0, 30), (30, 37), (37, 39)):
        group = order[start:end]
        rows[group] = rows[group[0]] + 0.2 * chance.standard_normal((end - start, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[order[40:44]] = 0
    return rows.astype(np.float16)


@pytest.mark.parametrize("size", [1, 17, 120, 500])
@pytest.mark.parametrize("similarity", [0.5, 0.9, 0.97])
def test_every_pair_counts_whatever_the_blocks(size, similarity):
    rows = planted()
    wide = rows.astype(np.float64)
    near = (wide @ wide.T).astype(np.float32) >= np.float32(similarity)
    np.fill_diagonal(near, True)  # a zero row is similar to nothing, and is there once
    np.testing.assert_array_equal(copies(Rows(rows, size), similarity), near.sum(axis=1))


def test_a_pair_at_the_very_similarity_counts():
    rows = planted()
    wide = rows.astype(np.float64)
    # As many thresholds as there are pairs in a group, each the similarity of one of them: float32
    # sums in another order would put some of them on the other side.
    pairs = (wide @ wide.T).astype(np.float32)
    for similarity in np.sort(pairs[pairs > 0.9])[:-120:20]:
        near = pairs >= similarity
        np.fill_diagonal(near, True)
        np.testing.assert_array_equal(copies(Rows(rows, 50), float(similarity)), near.sum(axis=1))


def test_levels_hold_every_picture_once():
    count = np.array([1, 1, 2, 2, 3, 3, 3, 7, 29, 30, 100, 5000])
    assert levels(count) == {
        "1": 2, "2": 2, "3-4": 3, "5-9": 1, "10-29": 1, "30-99": 1, "100+": 2,
    }  # fmt: skip
    assert levels(np.array([], dtype=np.int64)) == {}


@pytest.mark.parametrize("similarity", [0, -0.1, 1.01, float("nan")])
def test_a_similarity_out_of_range_is_refused(similarity):
    with pytest.raises(ValueError, match="must lie above 0"):
        copies(Rows(planted(), 50), similarity)
