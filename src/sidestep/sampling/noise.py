"""Noise levels: a model's schedule, its time grid, and the conversions between families.

A variance-preserving sample is `x = alpha * x0 + sigma * n` with `alpha^2 + sigma^2 = 1`. Levels of
other families are the same level when their signal-to-noise ratio `SNR = (alpha / sigma)^2` is:
EDM's sigma is `SNR^-1/2`, and the time of a rectified flow `x = (1 - s) x0 + s n` is
`1 / (1 + SNR^1/2)`.
"""

import bisect
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sidestep.guidance.denoiser import Level


@dataclass(frozen=True)
class NoiseSchedule:
    """A discrete variance-preserving schedule: `alpha_bar`, (T,) float64, falling inside (0, 1)."""

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        """Refuse what is no schedule, and one whose last level holds no signal at all."""
        bar = self.alpha_bar
        if bar.ndim != 1 or len(bar) < 2 or not bool((bar[1:] < bar[:-1]).all()):
            raise ValueError(
                f"alpha_bar of shape {tuple(bar.shape)} is no schedule; it must be a list of "
                "numbers that falls from step to step"
            )
        if not 0 < float(bar[-1]) <= float(bar[0]) < 1:
            raise ValueError(
                f"alpha_bar runs from {float(bar[0])} to {float(bar[-1])}; it must stay between 0 "
                "and 1. A last value of 0 (zero terminal SNR) leaves no signal to solve for: save "
                "the scheduler without rescale_betas_zero_snr"
            )

    @classmethod
    def scaled_linear(
        cls, start: float = 0.00085, end: float = 0.012, timesteps: int = 1000
    ) -> "NoiseSchedule":
        """Stable Diffusion's schedule: betas linear in their square root."""
        betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - betas, dim=0))

    @classmethod
    def linear(
        cls, start: float = 0.0001, end: float = 0.02, timesteps: int = 1000
    ) -> "NoiseSchedule":
        """DDPM's schedule: betas linear."""
        return cls(torch.cumprod(1 - torch.linspace(start, end, timesteps, dtype=torch.float64), 0))

    def level(self, timestep: int) -> Level:
        """The level of a timestep in [0, T)."""
        if not 0 <= timestep < len(self.alpha_bar):
            raise ValueError(
                f"timestep is {timestep}; this schedule has 0 to {len(self.alpha_bar) - 1}"
            )
        bar = float(self.alpha_bar[timestep])
        time = timestep / len(self.alpha_bar)
        return Level(timestep, time, math.sqrt(bar), math.sqrt(1 - bar))

    def grid(self, steps: int) -> list[Level]:
        """`steps` levels from noise to data, evenly spaced in timesteps ("linspace" spacing).

        For 50 of 1000: 999 979 959 ... 519 500 480 ... 20; the paper's grid.
        """
        last = len(self.alpha_bar) - 1
        if not 1 <= steps <= last:
            raise ValueError(f"steps is {steps}; this schedule allows 1 to {last}")
        spaced = torch.linspace(0, last, steps + 1, dtype=torch.float64).round().long()
        return [self.level(t) for t in reversed(spaced[1:].tolist())]

    def grid_from(self, start: Level, steps: int) -> list[Level]:
        """`start`, then the levels below it of the grid with that many steps: finer steps."""
        return [start] + [level for level in self.grid(steps) if level.timestep < start.timestep]

    def nearest(self, snr: float) -> Level:
        """The level whose signal-to-noise ratio is nearest on a log scale."""
        _check_positive("snr", snr)
        ratios = torch.log(self.alpha_bar / (1 - self.alpha_bar))
        return self.level(int((ratios - math.log(snr)).abs().argmin()))


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it must be a positive, finite number")


def time_of_snr(snr: float) -> float:
    """The diffusion time, in [0, 1], at which Stable Diffusion has that signal-to-noise ratio.

    It is how a setting made for one family is carried to another: SNR 0.38 is time 0.5, which is
    sigma 1.62 of EDM and 0.62 of a rectified flow. Between timesteps log SNR is interpolated;
    beyond the last one time runs on towards 1, where SNR is 0, so that less noise is always a
    lower time. Rounded to 1e-6: schedules are float32, and a time of 0.5 must be met exactly.
    """
    if not 0 <= snr <= math.inf:
        raise ValueError(f"snr is {snr}; a signal-to-noise ratio is not below 0")
    ratios = _stable_diffusion()
    last = len(ratios) - 1
    if snr < ratios[last]:
        return round((last + 1 - snr / ratios[last]) / (last + 1), 6)
    after = bisect.bisect_left(ratios, -snr, key=lambda ratio: -ratio)
    if after == 0:
        return 0.0
    high, low = ratios[after - 1], ratios[after]
    share = (math.log(high) - math.log(snr)) / (math.log(high) - math.log(low))
    return round((after - 1 + share) / (last + 1), 6)


@cache
def _stable_diffusion() -> list[float]:
    """Signal-to-noise ratio of each timestep of Stable Diffusion."""
    bar = NoiseSchedule.scaled_linear().alpha_bar
    return (bar / (1 - bar)).tolist()


def edm_sigma(snr: float) -> float:
    """The noise level sigma of EDM and k-diffusion at a signal-to-noise ratio."""
    _check_positive("snr", snr)
    return float(snr**-0.5)


def flow_sigma(snr: float) -> float:
    """The time of a rectified flow at a signal-to-noise ratio, in (0, 1)."""
    _check_positive("snr", snr)
    return float(1 / (1 + snr**0.5))


def snr_of_edm(sigma: float) -> float:
    """The signal-to-noise ratio at an EDM sigma."""
    _check_positive("sigma", sigma)
    return float(sigma**-2)


def snr_of_flow(sigma: float) -> float:
    """The signal-to-noise ratio at a rectified flow's time, in (0, 1)."""
    if not 0 < sigma < 1:
        raise ValueError(f"sigma is {sigma}; the time of a rectified flow lies between 0 and 1")
    return float(((1 - sigma) / sigma) ** 2)
