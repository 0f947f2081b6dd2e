"""The threshold's promise about false alarms, exactly and for every number of controls."""

import json
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestep.similarity.calibration import Calibration, calibrate

rates = st.integers(1, 999).map(lambda i: Fraction(i, 1000))


@given(st.integers(1, 120), rates, st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_promise_holds_exactly_for_exchangeable_pictures(n, rate, seed):
    # Of n + 1 exchangeable pictures each is equally often the new one. So the false alarm rate is
    # the share of them that passes the threshold of the n others: counted, not sampled.
    if n < 1 / rate - 1:
        with pytest.raises(ValueError, match=f"at least {ceil(1 / rate) - 1}"):
            calibrate("x", np.zeros(n), float(rate))
        return
    values = np.random.default_rng(seed).integers(0, n + 1, n + 1) / n  # with ties
    alarms = 0
    for new in range(n + 1):
        found = calibrate("x", np.delete(values, new), float(rate))
        alarms += bool(found.copies(values[new]))
    assert Fraction(alarms, n + 1) <= rate


@given(st.integers(1, 400), rates)
@settings(max_examples=50, deadline=None)
def test_it_is_the_order_statistic_the_source_names_and_no_stricter(n, rate):
    k = ceil((n + 1) * (1 - rate))
    if k > n:
        return
    found = calibrate("x", np.arange(1, n + 1), float(rate))
    assert found.threshold == k
    assert found.rank == n + 1 - k
    # One rank lower would break the promise.
    assert Fraction(found.rank + 1, n + 1) > rate


def test_a_copy_lies_strictly_above():
    found = calibrate("x", np.linspace(0, 1, 101), 0.01)
    assert found.threshold == found.highest == 1
    assert found.copies([1.0, np.nextafter(1, 2), 0.5]).tolist() == [False, True, False]


def test_it_survives_json():
    found = calibrate("sscd-disc-mixup-224", [0.1] * 99 + [0.7], 0.02, fingerprint="abc")
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_foreign_dictionary_is_refused():
    values = calibrate("x", np.zeros(99)).to_dict()
    with pytest.raises(ValueError, match="rank"):
        Calibration.from_dict({k: v for k, v in values.items() if k != "rank"})
    with pytest.raises(ValueError, match="colour"):
        Calibration.from_dict({**values, "colour": 1})


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate("x", np.zeros(99), rate)


def test_a_control_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        calibrate("x", [0.1] * 99 + [float("nan")])
