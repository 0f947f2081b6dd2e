"""Exact intervals over every outcome; the bootstrap against its formula and by its coverage."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from sidestep.similarity.intervals import bootstrap_interval, clopper_pearson, paired_interval


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


def test_the_bounds_are_bca_from_its_formula():
    # One value per prompt: the clustered bootstrap is the plain one, written out here.
    values = np.random.default_rng(3).gamma(1.0, 1.0, 25)
    low, high = bootstrap_interval([[v] for v in values], resamples=4000, seed=1)
    r = np.random.default_rng(11)
    draws = np.array([r.choice(values, 25).mean() for _ in range(4000)])
    bias = norm.ppf((draws < values.mean()).mean())
    left_out = np.array([np.delete(values, i).mean() for i in range(25)])
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    expected = []
    for z in norm.ppf([0.025, 0.975]):
        shifted = bias + (bias + z) / (1 - acceleration * (bias + z))
        expected.append(np.quantile(draws, norm.cdf(shifted)))
    # Two sets of 4000 draws: a tail quantile moves by about 0.03 of the mean's deviation of 0.2.
    assert (low, high) == pytest.approx(expected, abs=0.05)


def test_the_images_of_a_prompt_are_drawn_together():
    # Eight equal images per prompt say no more than one: the interval must not shrink.
    values = np.random.default_rng(0).normal(size=30)
    alone = bootstrap_interval([[v] for v in values], resamples=999)
    eight = bootstrap_interval([[v] * 8 for v in values], resamples=999)
    assert eight == pytest.approx(alone, abs=1e-12)  # the same draws, float64 means
    ignoring = bootstrap_interval([[v] for v in np.repeat(values, 8)], resamples=999)
    assert ignoring[1] - ignoring[0] < 0.5 * (alone[1] - alone[0])


def test_prompts_with_more_images_weigh_more_and_percentiles_work():
    prompts = [[0.1, 0.2], [0.4], [0.9, 0.8, 0.7], [0.3], [0.5, 0.6]]
    low, high = bootstrap_interval(prompts, lambda x: np.percentile(x, 95), resamples=499)
    assert low <= np.percentile(np.concatenate(prompts), 95) <= high
    assert 0.1 < low < high < 0.9 + 1e-12  # of any draw the highest value is 0.9


def test_what_prompts_have_in_common_cancels_in_a_paired_difference():
    r = np.random.default_rng(0)
    common = r.normal(0, 5, 40)
    first = [[c + 1 + e] for c, e in zip(common, r.normal(0, 0.1, 40), strict=True)]
    second = [[c] for c in common]
    low, high = paired_interval(first, second, resamples=999)
    assert 0.9 < low < 1 < high < 1.1
    one = bootstrap_interval(first, resamples=999)
    assert high - low < 0.1 * (one[1] - one[0])


def test_the_truth_is_held_about_as_often_as_promised():
    r = np.random.default_rng(5)
    held = 0
    for trial in range(60):
        # 30 prompts with a level of their own, 3 images each; the truth is 0.
        prompts = r.normal(size=(30, 1)) + 0.3 * r.normal(size=(30, 3))
        low, high = bootstrap_interval(list(prompts), confidence=0.9, resamples=199, seed=trial)
        held += low <= 0 <= high
    # Binomial(60, 0.9), and a little less because 30 prompts are few; 46 is 3 deviations below.
    assert 46 <= held <= 59


def test_equal_prompts_tell_no_spread():
    assert np.isnan(bootstrap_interval([[1.0], [1.0], [1.0]], resamples=99)).all()


def test_a_seed_repeats():
    prompts = [[0.1], [0.5], [0.7], [0.2]]
    assert bootstrap_interval(prompts, resamples=99) == bootstrap_interval(prompts, resamples=99)


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [([[1.0]], "two or more"), ([[1.0], []], "two or more"), ([[1.0], [np.nan]], "not finite")],
)
def test_what_cannot_be_drawn_is_refused(prompts, sentence):
    with pytest.raises(ValueError, match=sentence):
        bootstrap_interval(prompts)


def test_a_pair_needs_the_same_prompts_and_a_confidence_is_a_share():
    with pytest.raises(ValueError, match="same prompts"):
        paired_interval([[1.0], [2.0]], [[1.0], [2.0], [3.0]])
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        bootstrap_interval([[1.0], [2.0]], confidence=95)
