"""Spread of the draws of a prompt."""

import numpy as np
import pytest

from sidestep.similarity.aggregates import spread


def test_spread_is_the_mean_over_the_other_draws():
    rows = np.random.default_rng(0).normal(size=(5, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = [
        sum(1 - float(rows[i].astype(float) @ rows[j]) for j in range(5) if j != i) / 4
        for i in range(5)
    ]
    assert spread(rows) == pytest.approx(expected, abs=1e-12)  # both sum in float64


def test_equal_draws_have_none_and_opposite_draws_have_two():
    unit = np.eye(3, dtype=np.float32)[:1]
    assert spread(np.repeat(unit, 4, 0)).tolist() == [0, 0, 0, 0]
    assert spread(np.concatenate([unit, -unit])).tolist() == [2, 2]


def test_a_single_draw_has_no_spread():
    assert np.isnan(spread(np.ones((1, 4), dtype=np.float32))).tolist() == [True]
    assert spread(np.ones((0, 4), dtype=np.float32)).shape == (0,)


def test_rows_are_expected():
    with pytest.raises(ValueError, match="rows"):
        spread(np.ones(4, dtype=np.float32))
