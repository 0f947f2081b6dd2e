"""Search, calibration, intervals, agreement: each against an independent reference."""

import numpy as np
import pytest
from scipy.stats import beta

from sidestep.similarity.agreement import Prototypes
from sidestep.similarity.calibration import calibrate
from sidestep.similarity.intervals import clopper_pearson
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.search import nearest


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (84, 120)])
def test_the_interval_is_that_of_the_beta_quantiles(k, n):
    low = 0.0 if k == 0 else beta.ppf(0.025, k, n - k + 1)
    high = 1.0 if k == n else beta.ppf(0.975, k + 1, n - k)
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-9)


def test_search_finds_what_a_loop_finds():
    r = np.random.default_rng(0)
    queries, references = (r.normal(size=(n, 16)).astype(np.float32) for n in (7, 50))
    scores, indices = nearest(queries, references, k=3)
    for i, query in enumerate(queries):
        order = sorted(range(50), key=lambda j: -float(query @ references[j]))[:3]
        assert indices[i].tolist() == order
        # Summation order differs: float32 rounding of sums of 16 products.
        assert scores[i] == pytest.approx([float(query @ references[j]) for j in order], abs=1e-5)


def test_pixel_similarity_is_the_correlation_of_averaged_pixels():
    r = np.random.default_rng(0)
    images = r.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    rows = Pixels(32).embed(images)
    small = images.astype(float).reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    small = (small - small.mean((1, 2), keepdims=True)).reshape(2, -1)
    expected = small[0] @ small[1] / np.linalg.norm(small[0]) / np.linalg.norm(small[1])
    assert float(rows[0] @ rows[1]) == pytest.approx(expected, abs=1e-5)  # float32 rows


def test_few_controls_pass_a_calibrated_threshold():
    # 400 calibrations of 199 controls: a new control passes with probability at most 1/100 each.
    r = np.random.default_rng(0)
    passed = 0
    for _ in range(400):
        found = calibrate("x", r.beta(2, 5, 199), 0.01)
        passed += int((r.beta(2, 5, 50) > found.threshold).sum())
    # 20,000 draws of at most 1 %: 5 standard errors above it, correlation within a row included.
    assert passed / 20_000 < 0.01 + 5 * np.sqrt(0.01 / 400)


def test_too_few_controls_are_refused():
    with pytest.raises(ValueError, match="control"):
        calibrate("x", np.linspace(0, 1, 20), 0.01)


def test_agreement_places_clusters_first_and_counts_ties_against():
    r = np.random.default_rng(0)
    centres = r.normal(size=(4, 8)) * 10
    concepts = [name for name in "abcd" for _ in range(20)]
    rows = (np.repeat(centres, 20, 0) + r.normal(size=(80, 8))).astype(np.float32)
    prototypes = Prototypes(rows, concepts)
    assert prototypes.places(rows, concepts).tolist() == [1] * 80
    wrong = prototypes.places(rows, ["b"] * 20 + ["a"] * 60)
    assert (wrong > 1).all()


def test_an_unknown_concept_is_refused():
    prototypes = Prototypes(np.eye(4, dtype=np.float32), list("aabb"))
    with pytest.raises(ValueError, match="no prototype"):
        prototypes.places(np.eye(4, dtype=np.float32)[:1], ["z"])
