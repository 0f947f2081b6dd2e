"""Kernel distance against its definition, and unbiased."""

import numpy as np
import pytest

from sidestep.similarity.kid import kernel_distance


def by_definition(a, b):
    def mean(x, y, skip_equal):
        pairs = [
            (float(x[i] @ y[j]) / x.shape[1] + 1) ** 3
            for i in range(len(x))
            for j in range(len(y))
            if not (skip_equal and i == j)
        ]
        return sum(pairs) / len(pairs)

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_it_is_the_definition_for_any_chunk(chunk):
    r = np.random.default_rng(0)
    a, b = r.normal(size=(9, 6)), r.normal(0.5, 2, size=(7, 6))
    # Both sum in float64, in another order.
    assert kernel_distance(a, b, chunk) == pytest.approx(by_definition(a, b), rel=1e-10)


def test_it_is_unbiased_for_equal_sources_and_positive_for_different_ones():
    r = np.random.default_rng(0)
    same = [kernel_distance(r.normal(size=(20, 8)), r.normal(size=(20, 8))) for _ in range(300)]
    # 4 standard errors of the 300 trials' own mean.
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(300)
    assert min(same) < 0
    # Far apart: above everything 300 equal pairs gave.
    assert kernel_distance(r.normal(size=(20, 8)), r.normal(2, 1, size=(20, 8))) > max(same)


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (np.ones((1, 4)), np.ones((3, 4)), "two or more"),
        (np.ones((3, 4)), np.ones((3, 5)), "same length"),
        (np.ones((3, 4)), np.full((3, 4), np.nan), "not finite"),
    ],
)
def test_what_has_no_distance_is_refused(a, b, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernel_distance(a, b)
