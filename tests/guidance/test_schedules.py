from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import rules_loops

from sidestep.guidance import Dynamic, Prediction, Scheduled, Static
from sidestep.guidance.schedules import Shape


@given(st.sampled_from(get_args(Shape)), st.integers(0, 1000), st.sampled_from([7.5, -2.0, 0.0]))
def test_every_shape_is_the_released_formula(shape, t, scale):
    # Both sides are float64 and differ at most in the order of a product.
    expected = rules_loops.schedule(shape, scale, t)
    assert Scheduled(shape, scale).at(t / 1000) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_v_is_a_tent_and_a_is_a_dip():
    v, a = Scheduled("v", 1.0), Scheduled("a", 1.0)
    assert [v.at(s) for s in (1.0, 0.75, 0.5, 0.25, 0.0)] == [0, 0.25, 0.5, 0.25, 0]
    assert [a.at(s) for s in (1.0, 0.75, 0.5, 0.25, 0.0)] == [1, 0.75, 0.5, 0.75, 1]


def test_an_unknown_shape_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="shape is 'lin'; known schedule shapes are constant, lin"):
        Scheduled("lin")


def test_a_schedule_of_nan_is_refused():
    with pytest.raises(ValueError, match="scale is nan"):
        Scheduled("linear", float("nan"))


def test_schedules_work_on_both_sides_of_a_transition():
    uncond, cond = torch.zeros(1, 2), torch.ones(1, 2)
    before, after = Scheduled("invlinear", -4.0), Scheduled("linear", 8.0)
    rule = Static(0.5, before=before, after=after)
    state = rule.init(1)
    assert rule.step(Prediction(uncond, cond, 0.75), state)[0].scale.tolist() == [-3.0]
    assert rule.step(Prediction(uncond, cond, 0.25), state)[0].scale.tolist() == [6.0]
    late = Dynamic(before=before, after=after)
    assert late.step(Prediction(uncond, cond, 0.875), late.init(1))[0].scale.tolist() == [-3.5]
    assert late.step(Prediction(uncond, cond, 0.5), late.init(1))[0].scale.tolist() == [4.0]
