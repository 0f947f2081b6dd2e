"""Where a diffusers scheduler stands: noise level, diffusion time, units of the model's output.

A scheduler's `timesteps` mean something else in every family, so nothing here reads time from
them: the signal-to-noise ratio is taken from what the scheduler solves with, and diffusion time is
the time at which Stable Diffusion's own schedule has that ratio. Schedulers are only read.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import BadModel
from sidestep.sampling.noise import NoiseSchedule

# Schedulers compute in float32; a time is good to about a hundredth of one of SD's 1000 timesteps.
# Rounded to a tenth of one, SD's t = 500 is time 0.5 and not 0.500001, on which side of 0.5 it is.
DIGITS = 4


class Noise(NamedTuple):
    """One noise level of a scheduler."""

    time: float  # diffusion time in [0, 1], 1 = pure noise
    snr: float  # signal-to-noise ratio, 0 = pure noise
    unit: float  # how far the noise prediction moves when the model's output moves by 1


def noise_at(scheduler: Any, index: int) -> Noise:
    """The noise level of the scheduler's timestep number `index`.

    Raises BadModel for a scheduler whose noise level is not known.
    """
    ratio = snr_of(scheduler, index)
    return Noise(time_of_snr(ratio), ratio, _unit(scheduler, ratio))


def time_of(scheduler: Any, index: int) -> float:
    """Diffusion time in [0, 1] of the scheduler's timestep number `index`."""
    return time_of_snr(snr_of(scheduler, index))


def snr_of(scheduler: Any, index: int) -> float:
    """The signal-to-noise ratio at the scheduler's timestep number `index`."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and _is_flow(scheduler):
        sigma = float(sigmas[index])
        return ((1 - sigma) / sigma) ** 2
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    if alpha_bar is None:
        raise BadModel(
            f"the noise levels of {type(scheduler).__name__} are not known; known are schedulers "
            "of rectified flows and those that have alphas_cumprod, such as DDIM, Euler and DPM++"
        )
    if sigmas is not None:
        return float(sigmas[index]) ** -2
    kept = float(alpha_bar[int(scheduler.timesteps[index])])
    return kept / (1 - kept)


def time_of_snr(snr: float) -> float:
    """The diffusion time at which Stable Diffusion has that signal-to-noise ratio, in [0, 1].

    Between two of its timesteps log SNR is interpolated. Below its noisiest level, t = 999, time
    goes on to 1 as the ratio goes to 0; above its cleanest one time is 0.
    """
    ladder = _ladder()
    noisiest = math.exp(-ladder[-1])
    if snr < noisiest:
        last = (len(ladder) - 1) / len(ladder)
        return round(1 - (1 - last) * snr / noisiest, DIGITS)
    steps = np.interp(-math.log(snr), ladder, np.arange(len(ladder)))
    return round(float(steps) / len(ladder), DIGITS)


@cache
def _ladder() -> NDArray[np.float64]:
    """Minus log SNR of Stable Diffusion's timesteps, rising."""
    bar = NoiseSchedule.scaled_linear().alpha_bar.numpy()
    ladder: NDArray[np.float64] = np.log1p(-bar) - np.log(bar)
    return ladder


def _is_flow(scheduler: Any) -> bool:
    config = scheduler.config
    return (
        type(scheduler).__name__.startswith("FlowMatch")
        or bool(config.get("use_flow_sigmas", False))
        or config.get("prediction_type") == "flow_prediction"
    )


def _unit(scheduler: Any, snr: float) -> float:
    """With `x = alpha x0 + sigma n` and x fixed, dn for d(output) = 1.

    Velocity of a flow `n - x0`: n = x + alpha v, alpha = 1 - sigma. v prediction: n = sigma x +
    alpha v. Clean prediction: n = (x - alpha x0) / sigma.
    """
    root = math.sqrt(snr)
    if _is_flow(scheduler):
        return root / (1 + root)
    match scheduler.config.get("prediction_type", "epsilon"):
        case "epsilon":
            return 1.0
        case "v_prediction":
            return root / math.sqrt(1 + snr)
        case "sample":
            return root
        case other:
            raise BadModel(
                f"{type(scheduler).__name__} is set to prediction type {other!r}; known are "
                "epsilon, v_prediction, sample and flow_prediction"
            )
