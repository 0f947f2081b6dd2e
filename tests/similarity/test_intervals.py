"""Exact intervals: their coverage, summed over every outcome, and their edges."""

import numpy as np
import pytest
from scipy.stats import binom

from sidestep.similarity.intervals import clopper_pearson


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_true_share_is_held_at_least_as_often_as_promised(n, confidence):
    bounds = [clopper_pearson(k, n, confidence) for k in range(n + 1)]
    for share in np.linspace(0, 1, 41):
        held = sum(
            binom.pmf(k, n, share) for k, (low, high) in enumerate(bounds) if low <= share <= high
        )
        assert held >= confidence - 1e-12  # rounding of at most 41 summed probabilities


def test_none_of_n_is_the_rule_of_three_and_mirrors_all_of_n():
    low, high = clopper_pearson(0, 100)
    # Closed form: (1 - high)^n = (1 - confidence) / 2. The bounds come from a root finder.
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-9))
    assert clopper_pearson(100, 100) == (pytest.approx(1 - high, abs=1e-9), 1)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_what_is_no_share_is_refused(k, n):
    with pytest.raises(ValueError, match="no share"):
        clopper_pearson(k, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_in_percent_is_refused(confidence):
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        clopper_pearson(1, 5, confidence)
