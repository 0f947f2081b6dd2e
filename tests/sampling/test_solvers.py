import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from sidestep.sampling import DDIM, DPMSolver, Level, NoiseSchedule

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
MEAN = torch.tensor([0.8, -0.3, 0.1], dtype=torch.float64)
VARIANCE = 0.3


def gaussian_noise(x, level):
    """The exact noise prediction for data of N(MEAN, VARIANCE)."""
    variance = level.alpha**2 * VARIANCE + level.sigma**2
    return level.sigma * (x - level.alpha * MEAN.to(x)) / variance


def solve(solver, x, levels, *, clean=False):
    """From the first of the levels to the last, or on to the clean sample."""
    memory = None
    for level, after in zip(levels, [*levels[1:], None], strict=True):
        if after is None and not clean:
            return x
        x, memory = solver.step(gaussian_noise(x, level), x, level, after, memory)
    return x


def start(batch=4):
    return torch.randn(batch, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("steps", [10, 50])
def test_dpm_solver_walks_the_path_of_diffusers(steps):
    scheduler = DPMSolverMultistepScheduler(**SD, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    # diffusers solves in float32 from sigmas in float32; the same sigmas leave only its rounding.
    sigmas = scheduler.sigmas[:-1].double()
    levels = [
        Level(int(t), int(t) / 1000, 1 / math.sqrt(1 + s * s), s / math.sqrt(1 + s * s))
        for t, s in zip(scheduler.timesteps, sigmas.tolist(), strict=True)
    ]
    ours, theirs, memory = start(), start(), None
    for level, after in zip(levels, [*levels[1:], None], strict=True):
        noise = gaussian_noise(ours, level)
        ours, memory = DPMSolver().step(noise, ours, level, after, memory)
        noise = gaussian_noise(theirs, level)
        theirs = scheduler.step(noise, level.timestep, theirs).prev_sample
        # 50 steps that round numbers of size 3 to float32, and logarithms of near sigmas that
        # cancel two digits: 50 * 3 * 2**-24 * 10 is 1e-4 at worst; 1e-5 is what is seen.
        torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=2e-5)


def test_a_whole_run_on_our_own_schedule_ends_where_diffusers_ends():
    scheduler = DPMSolverMultistepScheduler(**SD, timestep_spacing="linspace")
    scheduler.set_timesteps(50)
    levels = NoiseSchedule.scaled_linear().grid(50)
    x = start()
    for level in levels:
        x = scheduler.step(gaussian_noise(x, level), level.timestep, x).prev_sample
    # On top of the rounding above its alphas are off by up to 6e-5 relative (1000 factors).
    ours = solve(DPMSolver(), start(), levels, clean=True)
    torch.testing.assert_close(ours, x.double(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddim_takes_the_step_of_diffusers(clip):
    scheduler = DDIMScheduler(
        **SD, clip_sample=clip is not None, clip_sample_range=clip or 1.0, set_alpha_to_one=True
    )
    scheduler.set_timesteps(50)  # its step goes from t to t - 20
    schedule = NoiseSchedule(scheduler.alphas_cumprod.double())
    for timestep in (980, 500, 40, 10):
        level = schedule.level(timestep)
        after = schedule.level(timestep - 20) if timestep >= 20 else None
        x, noise = 2 * start(), start().flip(0)
        ours, _ = DDIM(clip=clip).step(noise, x, level, after, None)
        # A clipped clean estimate changes the noise too, so that both still add up to x.
        theirs = scheduler.step(noise, timestep, x, use_clipped_model_output=clip is not None)
        # Its coefficients are float32: 2**-24 relative on a clean estimate x / alpha of up to 30.
        torch.testing.assert_close(ours, theirs.prev_sample.double(), rtol=1e-6, atol=5e-6)


def test_ddim_is_the_formula_of_the_paper():
    a, b = 0.3, 0.6  # alpha_bar before and after
    x, noise = start(), start().flip(0)
    level = Level(0, 0.5, math.sqrt(a), math.sqrt(1 - a))
    after = Level(0, 0.4, math.sqrt(b), math.sqrt(1 - b))
    # Song et al. 2021, equation 12 with sigma_t = 0; float64, other order of operations.
    expected = math.sqrt(b) * (x - math.sqrt(1 - a) * noise) / math.sqrt(a)
    expected = expected + math.sqrt(1 - b) * noise
    torch.testing.assert_close(DDIM().step(noise, x, level, after, None)[0], expected)


@pytest.mark.parametrize("solver, order", [(DDIM(), 1), (DPMSolver(), 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    # Between two fixed levels, evenly spaced in log SNR; the step to the clean sample is left out
    # because it is of first order by design.
    def levels(steps):
        ratio = np.exp(np.linspace(-2, 2, steps + 1))  # alpha / sigma
        return [
            Level(0, 0.5, r / math.sqrt(1 + r * r), 1 / math.sqrt(1 + r * r))
            for r in ratio.tolist()
        ]

    first, *_, last = levels(1)
    x = start()
    # A Gaussian's flow keeps (x - alpha mean) / std(x) constant.
    spread = [math.sqrt(s.alpha**2 * VARIANCE + s.sigma**2) for s in (first, last)]
    exact = last.alpha * MEAN + spread[1] / spread[0] * (x - first.alpha * MEAN)
    steps = [40, 80, 160, 320]
    errors = [float((solve(solver, x, levels(n)) - exact).abs().max()) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    # The next term of the error, one order higher, bends the line by about 1 / 40.
    assert slope == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", [DDIM(), DPMSolver()])
def test_a_solver_treats_each_sample_alone(solver):
    levels = NoiseSchedule.scaled_linear().grid(20)
    together = solve(solver, start(), levels, clean=True)
    for b in range(4):
        # Elementwise arithmetic without transcendental functions of x: equal to the bit.
        assert torch.equal(solve(solver, start()[b : b + 1], levels, clean=True)[0], together[b])


def test_the_last_step_gives_the_clean_estimate():
    level = NoiseSchedule.scaled_linear().level(20)
    x, noise = start(), start().flip(0)
    for solver in (DDIM(), DPMSolver()):
        clean, _ = solver.step(noise, x, level, None, None)
        torch.testing.assert_close(level.alpha * clean + level.sigma * noise, x)
