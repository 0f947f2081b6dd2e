"""AUC and TPR at a low FPR against every pair and every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import roc_loops

from sidestep.similarity.detection import auc, auc_interval, tpr_at_fpr, tpr_interval

# Few distinct values: ties within and between the groups are common.
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=25)


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_auc_is_the_share_of_pairs_in_the_right_order(memorized, ordinary):
    expected = roc_loops.auc(memorized, ordinary)
    assert auc(memorized, ordinary) == pytest.approx(expected, abs=1e-12)  # float64


@given(scores, scores, st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_tpr_is_the_best_of_every_threshold(memorized, ordinary, percent):
    found = tpr_at_fpr(memorized, ordinary, percent / 100)
    most = len(ordinary) * percent // 100
    assert found.tpr == roc_loops.best_tpr(memorized, ordinary, most)
    # The threshold it names does what it says.
    assert found.tpr == np.mean(np.array(memorized) > found.threshold)
    assert found.fpr == np.mean(np.array(ordinary) > found.threshold)
    assert found.fpr <= percent / 100


def test_the_three_published_definitions_differ_and_ours_never_passes_the_limit():
    # 100 ordinary prompts, one of them at 1.0: a threshold below it has an FPR of exactly 1 %.
    ordinary = [0.0] * 98 + [0.5, 1.0]
    memorized = [2.0] * 50 + [0.75] * 30 + [0.25] * 20
    found = tpr_at_fpr(memorized, ordinary)
    assert (found.tpr, found.fpr) == (0.8, 0.01)
    # Strictly below 1 % only 50 would be found; at the next point, 2 %, all of them.
    assert tpr_at_fpr(memorized, ordinary, 0.009).tpr == 0.5
    assert tpr_at_fpr(memorized, ordinary, 0.02).tpr == 1.0


def test_a_limit_is_the_decimal_as_typed():
    # 100 * 0.29 is 28.999... in floating point, but 29 of 100 may pass.
    assert tpr_at_fpr([70.5], list(range(100)), 0.29) == (1.0, 0.29, 70.0)


def test_a_wrong_sign_shows():
    memorized, ordinary = [0.0, 0.1], [1.0, 2.0]
    assert auc(memorized, ordinary) == 0
    assert tpr_at_fpr(memorized, ordinary).tpr == 0


def test_intervals_hold_the_estimate_and_shrink_with_more_prompts():
    r = np.random.default_rng(0)
    few = r.normal(1, 1, 40), r.normal(0, 1, 40)
    many = r.normal(1, 1, 640), r.normal(0, 1, 640)
    for statistic, interval in (
        (auc, auc_interval),
        (lambda a, b: tpr_at_fpr(a, b, 0.1).tpr, lambda *g, **k: tpr_interval(*g, 0.1, **k)),
    ):
        narrow, wide = (interval(*g, resamples=400) for g in (many, few))
        assert wide[0] <= statistic(*few) <= wide[1]
        # Sixteen times the prompts: a quarter of the width, with room for chance.
        assert narrow[1] - narrow[0] < 0.6 * (wide[1] - wide[0])


def test_the_auc_interval_holds_the_truth_about_as_often_as_promised():
    # Two normals one deviation apart: the AUC is Phi(1 / sqrt 2) = 0.7602.
    r = np.random.default_rng(1)
    held = 0
    for trial in range(60):
        low, high = auc_interval(
            r.normal(1, 1, 60), r.normal(0, 1, 60), confidence=0.9, resamples=199, seed=trial
        )
        held += low <= 0.7602 <= high
    # Binomial(60, 0.9): below 46 or 60 of 60 each have a chance of less than one in 500.
    assert 46 <= held <= 59


def test_a_perfect_detector_has_a_point():
    assert auc_interval([2.0, 3.0], [0.0, 1.0], resamples=99) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: auc([], [1.0]), "memorized prompts came as"),
        (lambda: auc([1.0], [[1.0]]), "ordinary prompts came as"),
        (lambda: auc([np.nan], [1.0]), "not finite"),
        (lambda: tpr_at_fpr([1.0], [1.0], 1), r"\[0, 1\)"),
        (lambda: tpr_interval([1.0, 2.0], [1.0, 2.0], -0.1), r"\[0, 1\)"),
        (lambda: auc_interval([1.0], [1.0, 2.0]), "two or more"),
        (lambda: auc_interval([1.0, 2.0], [1.0, 2.0], confidence=95), r"such as 0\.95"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
