import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import rules_loops

from sidestep.guidance import Constant, Dynamic, Needs, Prediction, Static, combine, take
from sidestep.guidance.base import only
from sidestep.guidance.dynamic import GapState

numbers = st.floats(-100, 100, allow_nan=False, width=32)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, -2.0, -7.5, 7.5]),
)
def test_combine_is_the_bare_formula_to_the_bit(pairs, scale):
    uncond, cond = ([float(p[i]) for p in pairs] for i in (0, 1))
    as_tensor = [torch.tensor([v], dtype=torch.float64) for v in (uncond, cond)]
    result = combine(Prediction(*as_tensor, time=0.5), torch.tensor([scale]))
    # Both are float64 and do the same three operations in the same order.
    assert result[0].tolist() == rules_loops.combine(uncond, cond, scale)


def test_combine_weighs_each_sample_by_its_own_scale_and_keeps_the_shape_and_dtype():
    uncond, cond = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.0, -2.0, 7.5])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        u, c = uncond.to(dtype), cond.to(dtype)
        result = combine(Prediction(u, c, 0.5), scale)
        assert result.dtype == dtype
        for b in range(3):
            assert torch.equal(result[b], u[b] + float(scale[b]) * (c[b] - u[b]))
    assert torch.equal(result[0], uncond[0].double())


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_gap_is_the_l2_norm(pairs):
    uncond, cond = ([float(p[i]) for p in pairs] for i in (0, 1))
    gap = Prediction(torch.tensor([uncond]), torch.tensor([cond]), 0.5).gap
    assert gap.dtype == torch.float32
    # float32 rounds each difference of numbers up to 100 by at most 100 * 2**-24 * 2.
    assert float(gap) == pytest.approx(rules_loops.gap(uncond, cond), rel=1e-6, abs=5e-5)


def test_gap_of_half_precision_neither_overflows_nor_underflows():
    # The difference, 120000, is above float16's largest number, 65504; so are the squares of both.
    big = torch.full((1, 4), 60000, dtype=torch.float16)
    assert float(Prediction(-big, big, 0.5).gap) == 240000.0
    # The square of 2**-14 is below float16's smallest number, 2**-24.
    small = torch.full((1, 4), 2.0**-14, dtype=torch.float16)
    assert float(Prediction(torch.zeros_like(small), small, 0.5).gap) == 2.0**-13


def test_gap_of_one_branch_is_unknown():
    one = torch.ones(2, 3)
    assert Prediction(one, one, 0.5).gap.isnan().all()
    assert torch.equal(combine(Prediction(one, one, 0.5), torch.tensor([0.0, 0.0])), one)


def test_prediction_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"cond has shape \(2, 4\), uncond \(2, 3\)"):
        Prediction(torch.zeros(2, 3), torch.zeros(2, 4), 0.5)


@pytest.mark.parametrize("time", [-0.1, 1.5, math.nan, math.inf])
def test_a_time_outside_0_to_1_is_refused_everywhere(time):
    zeros = torch.zeros(1, 2)
    makers = (
        lambda: Prediction(zeros, zeros, time),
        lambda: Static(time),
        lambda: Static((0.5, time)),
        lambda: Dynamic(earliest=time),
        lambda: Dynamic(latest=time),
        lambda: Dynamic(fallback=time),
    )
    for make in makers:
        with pytest.raises(ValueError, match=r"time lies in \[0, 1\]"):
            make()


def test_a_timestep_given_as_time_is_answered_with_the_time():
    with pytest.raises(ValueError, match=r"time is 700; .* timestep of 1000 it would be 0\.7"):
        Static(700)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "rule, name", [(Constant, "scale"), (Static, "before"), (Dynamic, "after")]
)
def test_a_scale_that_is_no_number_is_refused(rule, name, scale):
    with pytest.raises(ValueError, match=f"{name} is .*; a guidance scale must be a finite number"):
        rule(**{name: scale})


def test_what_a_single_scale_needs():
    assert only(0) == Needs(uncond=True, cond=False)
    assert only(1) == Needs(uncond=False, cond=True)
    assert only(-2) == only(7.5) == only(0.5) == Needs(uncond=True, cond=True)


@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_take_picks_the_samples_of_every_kind_of_state(rows):
    times = torch.tensor([0.1, 0.2, 0.3])
    assert torch.equal(take(times, rows), times[rows])
    assert take(None, rows) is None
    state = Dynamic().init(3)._replace(gap=times)
    taken = take(state, rows)
    assert isinstance(taken, GapState)
    assert torch.equal(taken.gap, times[rows])
    assert all(len(f) == 2 for f in taken)
