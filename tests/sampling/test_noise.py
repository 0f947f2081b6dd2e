import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from sidestep.sampling import (
    NoiseSchedule,
    edm_sigma,
    flow_sigma,
    snr_of_edm,
    snr_of_flow,
    time_of_snr,
)

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize(
    "ours, settings",
    [(NoiseSchedule.scaled_linear(), SD), (NoiseSchedule.linear(), {"beta_schedule": "linear"})],
)
@pytest.mark.parametrize("scheduler", [DDPMScheduler, DPMSolverMultistepScheduler])
def test_schedules_are_those_of_diffusers(ours, settings, scheduler):
    theirs = scheduler(**settings).alphas_cumprod.double()
    # diffusers multiplies 1000 factors in float32: a relative error up to 1000 * 2**-24.
    torch.testing.assert_close(ours.alpha_bar, theirs, rtol=6e-5, atol=0)


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 200, 999])
def test_the_grid_is_that_of_diffusers(steps):
    scheduler = DPMSolverMultistepScheduler(**SD, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    grid = NoiseSchedule.scaled_linear().grid(steps)
    assert [level.timestep for level in grid] == scheduler.timesteps.tolist()


def test_the_grid_of_50_is_the_papers():
    steps = [level.timestep for level in NoiseSchedule.scaled_linear().grid(50)]
    assert steps == [*range(999, 518, -20), *range(500, 19, -20)]
    assert steps[8] == 839 and steps[11] == 779 and steps[25] == 500


def test_levels_preserve_variance_and_time_is_the_share_of_timesteps():
    for level in NoiseSchedule.scaled_linear().grid(50):
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-15)  # float64 rounding
        assert level.time == level.timestep / 1000


def test_finer_steps_start_where_they_are_and_go_on_below():
    schedule = NoiseSchedule.scaled_linear()
    for timestep in (999, 839, 650, 500, 20, 3):
        grid = [level.timestep for level in schedule.grid_from(schedule.level(timestep), 200)]
        fine = [level.timestep for level in schedule.grid(200)]
        assert grid == [timestep] + [t for t in fine if t < timestep]


@pytest.mark.parametrize(
    "timestep, snr, edm, flow",
    # Rounded to two digits in the project's study of how Stable Diffusion's t maps to others.
    [
        (500, 0.38, 1.62, 0.62),
        (600, 0.19, 2.28, 0.70),
        (650, 0.13, 2.75, 0.73),
        (700, 0.09, 3.33, 0.77),
    ],
)
def test_conversions_between_families(timestep, snr, edm, flow):
    level = NoiseSchedule.scaled_linear().level(timestep)
    half = 0.005 + 1e-9  # half of the last digit
    assert level.snr == pytest.approx(snr, abs=half)
    assert edm_sigma(level.snr) == pytest.approx(edm, abs=half)
    assert flow_sigma(level.snr) == pytest.approx(flow, abs=half)


def test_conversions_keep_the_ratio_of_signal_to_noise_and_come_back():
    for snr in np.geomspace(1e-4, 1e4, 17).tolist():
        # EDM: x0 + sigma n. Flow: (1 - s) x0 + s n. Each must have that ratio by its definition.
        assert 1 / edm_sigma(snr) ** 2 == pytest.approx(snr, rel=1e-12)
        assert ((1 - flow_sigma(snr)) / flow_sigma(snr)) ** 2 == pytest.approx(snr, rel=1e-9)
        assert snr_of_edm(edm_sigma(snr)) == pytest.approx(snr, rel=1e-12)
        # 1 - s cancels up to two digits at the ends of this range.
        assert snr_of_flow(flow_sigma(snr)) == pytest.approx(snr, rel=1e-9)


def test_the_nearest_level_of_a_levels_own_ratio_is_that_level():
    schedule = NoiseSchedule.scaled_linear()
    for timestep in range(0, 1000, 37):
        assert schedule.nearest(schedule.level(timestep).snr).timestep == timestep
    assert schedule.nearest(1e9).timestep == 0
    assert schedule.nearest(1e-9).timestep == 999


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_ratios_that_cannot_be_are_refused(value):
    schedule = NoiseSchedule.scaled_linear()
    for convert in (edm_sigma, flow_sigma, snr_of_edm, schedule.nearest):
        with pytest.raises(ValueError, match="must be a positive, finite number"):
            convert(value)
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        snr_of_flow(value)


def test_timesteps_and_steps_outside_the_schedule_are_refused():
    schedule = NoiseSchedule.scaled_linear()
    for timestep in (-1, 1000):
        with pytest.raises(ValueError, match=f"timestep is {timestep}; this schedule has 0 to 999"):
            schedule.level(timestep)
    for steps in (0, 1000):
        with pytest.raises(ValueError, match=f"steps is {steps}; this schedule allows 1 to 999"):
            schedule.grid(steps)


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="falls from step to step"):
        NoiseSchedule(torch.tensor([0.5, 0.9]))
    zero_snr = DDPMScheduler(**SD, rescale_betas_zero_snr=True).alphas_cumprod.clone()
    zero_snr[-1] = 0.0  # what the rescaling computes; diffusers then puts 2**-24 there
    with pytest.raises(ValueError, match="zero terminal SNR"):
        NoiseSchedule(zero_snr.double())


@pytest.mark.parametrize("timestep", [0, 1, 250, 500, 700, 999])
def test_stable_diffusions_timesteps_are_their_own_time(timestep):
    level = NoiseSchedule.scaled_linear().level(timestep)
    # A float32 schedule, as diffusers keeps it, must land on the same time.
    bar = float(torch.tensor(level.alpha**2, dtype=torch.float32))
    assert time_of_snr(level.snr) == timestep / 1000
    if timestep:
        assert time_of_snr(bar / (1 - bar)) == timestep / 1000


def test_levels_of_other_families_have_the_time_of_their_snr():
    # Stable Diffusion's t of 500 and 700, as sigmas of EDM and of a rectified flow.
    for edm, flow, time in ((1.62, 0.62, 0.5), (3.33, 0.77, 0.7)):
        assert time_of_snr(snr_of_edm(edm)) == pytest.approx(time, abs=0.003)
        assert time_of_snr(snr_of_flow(flow)) == pytest.approx(time, abs=0.01)


def test_time_falls_with_the_noise_from_one_end_to_the_other():
    ratios = [0.0, 1e-6, 1e-4, 0.004, 0.005, 0.1, 1.0, 100.0, 1100.0, 1e9]
    times = [time_of_snr(snr) for snr in ratios]
    assert (times[0], times[-1]) == (1.0, 0.0)
    assert times == sorted(times, reverse=True)
    assert len(set(times[1:9])) == 8
    with pytest.raises(ValueError, match="not below 0"):
        time_of_snr(-1.0)
