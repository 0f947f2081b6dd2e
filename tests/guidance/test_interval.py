import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import rules_loops

from sidestep.guidance import Constant, Interval, Needs, Prediction, Scheduled
from sidestep.guidance.config import as_dict, from_dict
from sidestep.models.closed_form import Memorizer
from sidestep.rng import noise
from sidestep.sampling import DDIM, NoiseSchedule, sample
from sidestep.sampling.noise import snr_of_edm, time_of_snr

SCHEDULE = NoiseSchedule.scaled_linear()
TIMESTEPS = [level.timestep for level in SCHEDULE.grid(50)]


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([7.5, 0.0, -2.0]))
def test_the_scale_is_that_of_the_literal_loop(one, other, scale):
    stop, start = sorted((one, other))
    rule = Interval(start / 1000, stop / 1000, scale)
    zero = torch.zeros(2, 3)
    scales = []
    for t in TIMESTEPS:
        guided, _ = rule.step(Prediction(zero, zero + 1, t / 1000), rule.init(2))
        assert guided.on.tolist() == [t <= start] * 2
        scales.append(guided.scale[0].item())
    assert scales == rules_loops.interval(TIMESTEPS, start, stop, scale)


def test_a_bound_belongs_to_the_interval_above_and_not_below_as_in_the_paper():
    rule = Interval(0.7, 0.2)
    assert rule.needs(0.7) == Needs() and rule.needs(0.2) == Needs(uncond=False)
    # 0.1 * 7 is above 0.7 by one rounding.
    assert rule.needs(0.1 * 7) == Needs()


def test_the_defaults_are_the_papers_sigmas_for_sdxl():
    rule = Interval()
    # Rounded to three digits; a step of 1000 is 0.001.
    assert time_of_snr(snr_of_edm(5.42)) == pytest.approx(rule.start, abs=5e-4)
    assert time_of_snr(snr_of_edm(0.28)) == pytest.approx(rule.stop, abs=5e-4)


def test_it_saves_one_evaluation_at_each_step_outside():
    points = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser = Memorizer(points, torch.tensor([[1.0, 0, 0]] * 2, dtype=torch.float64))
    rule = Interval(0.8, 0.2)
    made = sample(denoiser, noise([0, 1], (2, 2)).double(), rule, SCHEDULE, steps=50)
    outside = sum(t > 800 or t <= 200 for t in TIMESTEPS)
    assert made.trace.nfe.tolist() == [100 - outside] * 2
    assert torch.equal(made.trace.gap[:, 0].isnan().sum(), torch.tensor(outside))
    assert (made.trace.transition_time <= 0.8).all()


def test_the_whole_of_time_is_plain_guidance_and_none_of_it_the_conditional_prediction():
    points = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.5, 0]] * 2, dtype=torch.float64)
    first = noise([0, 1], (2, 2)).double()

    def ends(rule):
        denoiser = Memorizer(points, weights)
        return sample(denoiser, first, rule, SCHEDULE, steps=20, solver=DDIM()).latents

    assert torch.equal(ends(Interval(1.0, 0.0, 3.0)), ends(Constant(3.0)))
    assert torch.equal(ends(Interval(0.5, 0.5, 3.0)), ends(Constant(1.0)))


def test_a_scale_that_changes_inside_the_interval_survives_a_file():
    rule = Interval(0.8, 0.2, Scheduled("linear", 9.0))
    assert from_dict(as_dict(rule)) == rule
    zero = torch.zeros(1, 2)
    guided, _ = rule.step(Prediction(zero, zero + 1, 0.5), rule.init(1))
    assert guided.scale.item() == 4.5


def test_an_interval_upside_down_is_refused():
    with pytest.raises(ValueError, match="stop must not be above start"):
        Interval(0.2, 0.8)
    with pytest.raises(ValueError, match=r"as a timestep of 1000 it would be 0\.8"):
        Interval(800, 0.2)
