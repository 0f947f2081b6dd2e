"""Noise levels of diffusers' schedulers, against the table of the conventions and by hand."""

import inspect
import math

import diffusers
import pytest
import torch

from sidestep.adapters.levels import Clock
from sidestep.errors import BadModel
from sidestep.sampling import time_of_snr

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
VARIANCE_PRESERVING = [
    "DDIM",
    "DDPM",
    "DEISMultistep",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "EulerAncestralDiscrete",
    "EulerDiscrete",
    "HeunDiscrete",
    "KDPM2Discrete",
    "LCM",
    "LMSDiscrete",
    "PNDM",
    "SASolver",
    "TCD",
    "UniPCMultistep",
]


def scheduler(name, steps=20, **config):
    kind = getattr(diffusers, name + "Scheduler")
    known = inspect.signature(kind.__init__).parameters
    made = kind(**{k: v for k, v in (SD | config).items() if k in known})
    made.set_timesteps(steps)
    return made


def level(scheduler, index):
    return Clock(scheduler).at(index)


def time_of(scheduler, index):
    return level(scheduler, index).time


@pytest.mark.parametrize("name", VARIANCE_PRESERVING)
def test_on_stable_diffusions_schedule_time_is_the_timestep_exactly(name):
    made = scheduler(name)
    for index, timestep in enumerate(made.timesteps.tolist()):
        if name == "KDPM2Discrete" and index % 2:
            continue  # the second evaluation, between two levels; nothing is decided there
        if timestep == int(timestep):
            assert time_of(made, index) == timestep / 1000


@pytest.mark.parametrize(
    ("timestep", "snr", "edm", "flow"),
    [
        (500, 0.38, 1.62, 0.62),
        (600, 0.19, 2.28, 0.70),
        (650, 0.13, 2.75, 0.73),
        (700, 0.09, 3.33, 0.77),
    ],
)
def test_a_time_has_the_known_levels_of_other_families(timestep, snr, edm, flow):
    # The known levels are rounded to two digits; one in the second digit of SNR is 10 timesteps.
    for ratio in (snr, edm**-2, ((1 - flow) / flow) ** 2):
        assert time_of_snr(ratio) == pytest.approx(timestep / 1000, abs=0.012)


def test_other_betas_and_flows_are_placed_by_their_ratio():
    linear = scheduler("DDIM", beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
    flow = scheduler("FlowMatchEulerDiscrete", shift=3.0)
    for made in (linear, flow):
        times = [time_of(made, i) for i in range(len(made.timesteps))]
        assert times == sorted(times, reverse=True)
        assert 0 <= min(times) <= max(times) <= 1
    kept = linear.alphas_cumprod[int(linear.timesteps[5])].item()
    assert level(linear, 5).snr == pytest.approx(kept / (1 - kept))
    sigma = flow.timesteps[5].item() / 1000
    assert level(flow, 5).snr == pytest.approx(((1 - sigma) / sigma) ** 2, rel=1e-5)
    assert time_of(flow, 0) == 1


def test_pure_noise_is_time_one_and_time_is_continuous_at_both_ends():
    assert time_of_snr(0.0) == 1
    zero = scheduler("DDIM", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    assert time_of(zero, 0) == 1
    noisiest = 0.00466 / (1 - 0.00466)  # Stable Diffusion at t = 999
    assert time_of_snr(noisiest * 0.999) == pytest.approx(time_of_snr(noisiest * 1.001), abs=2e-4)
    assert time_of_snr(1e9) == 0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_unit_turns_a_move_of_the_output_into_one_of_the_noise(kind):
    made = scheduler("DDIM", prediction_type=kind)
    for index in (1, 10, 18):
        kept = made.alphas_cumprod[int(made.timesteps[index])].double()
        alpha, sigma, x = kept.sqrt(), (1 - kept).sqrt(), torch.tensor(0.3)

        def noise(output, alpha=alpha, sigma=sigma, x=x):
            if kind == "epsilon":
                return output
            clean = alpha * x - sigma * output if kind == "v_prediction" else output
            return (x - alpha * clean) / sigma

        moved = float((noise(torch.tensor(2.0)) - noise(torch.tensor(1.0))).abs())
        assert level(made, index).unit == pytest.approx(moved, rel=1e-5)


def test_the_unit_of_a_velocity():
    made = scheduler("FlowMatchEulerDiscrete")
    for index in (1, 10, 18):
        sigma = float(made.sigmas[index])
        assert level(made, index).unit == pytest.approx(1 - sigma, rel=1e-5)


def test_flow_sigmas_of_a_multistep_solver_are_a_flow():
    made = scheduler("UniPCMultistep", use_flow_sigmas=True, prediction_type="flow_prediction")
    found = level(made, 10)
    sigma = float(made.sigmas[10])
    assert found.snr == pytest.approx(((1 - sigma) / sigma) ** 2)
    assert math.isclose(found.unit, 1 - sigma, rel_tol=1e-6)


def test_levels_of_edm_with_its_own_scaling_of_the_output():
    made = scheduler("EDMEuler", sigma_data=0.5)
    for index in (0, 10, 18):
        sigma = float(made.sigmas[index])
        found = level(made, index)
        assert found.snr == pytest.approx(sigma**-2)
        # The noise is (x - clean) / sigma, and the output enters clean times
        # sigma data / sqrt(sigma^2 + data^2).
        assert found.unit == pytest.approx(0.5 / math.hypot(sigma, 0.5))


def test_what_is_not_known_is_refused():
    with pytest.raises(BadModel, match="DDPMWuerstchenScheduler has neither sigmas"):
        time_of(scheduler("DDPMWuerstchen"), 0)
    odd = scheduler("DDIM")
    odd.register_to_config(prediction_type="score")
    with pytest.raises(BadModel, match="prediction type 'score'"):
        level(odd, 0)
