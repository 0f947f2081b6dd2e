"""CADS: hide the prompt behind noise on its embeddings early on, and let it appear as time falls.

    y' = sqrt(g) y + strength sqrt(1 - g) n,   n ~ N(0, I) afresh at each step
    y''= (y' - mean(y')) / std(y') * std(y) + mean(y)
    y <- mix y'' + (1 - mix) y'
    g  = 1 for t <= low,  (high - t) / (high - low) between,  0 for t >= high

Mean and deviation run over all tokens and channels of one sample. Only the conditional embeddings
change. No network evaluation.

Source: Sadat et al., CADS: Unleashing the Diversity of Diffusion Models through Condition-Annealed
Sampling, ICLR 2024, arXiv:2310.17347. It was made for diversity, not against memorization.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.guidance.base import Needs, Prediction, check_time
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.base import Start, Wrapped, check_finite
from sidestep.rng import stream


@dataclass(frozen=True)
class CADS:
    """Noise of size `strength` on the embeddings above time `low`, and nothing else above `high`.

    Times lie in [0, 1], 1 = noise. `mix` in [0, 1] is the share of the embeddings that are brought
    back to their own mean and deviation. Plain guidance at `low=1`, and at `strength=0` with
    `mix=1`: what only shrank and is brought back has not changed.
    """

    strength: float = 0.25
    low: float = 0.6
    high: float = 0.9
    mix: float = 1.0

    name: ClassVar[str] = "cads"

    def __post_init__(self) -> None:
        """Refuse a strength that is not finite, times outside [0, 1] or crossed, another mix."""
        check_finite(strength=self.strength)
        check_time("low", self.low)
        check_time("high", self.high)
        if self.low > self.high:
            raise ValueError(
                f"low is {self.low} and high {self.high}; the prompt appears between high and low, "
                "so low must not be above high"
            )
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}; it is a share, in [0, 1]")

    def begin(self, start: Start) -> Start:
        """The run whose embeddings are noised step by step."""
        denoiser = start.text_denoiser()
        if self.strength == 0 and self.mix == 1:
            return start.done(self.name)
        return start.with_denoiser(_Annealed(denoiser, self, start.seeds)).done(self.name)

    def kept(self, time: float) -> float:
        """The share g of the prompt at that time."""
        if time <= self.low:
            return 1.0
        return 0.0 if time >= self.high else (self.high - time) / (self.high - self.low)

    def noised(self, clean: Tensor, noise: Tensor, time: float) -> Tensor:
        """Embeddings (B, tokens, width) as they are at that time, given standard noise."""
        kept = self.kept(time)
        noisy: Tensor = kept**0.5 * clean + self.strength * (1 - kept) ** 0.5 * noise
        spread = _deviation(noisy)
        # Embeddings of one value have no deviation to divide by; brought back they are the clean.
        unit = (noisy - _mean(noisy)) / torch.where(spread > 0, spread, 1)
        back = torch.where(spread > 0, unit * _deviation(clean) + _mean(clean), clean)
        return self.mix * back + (1 - self.mix) * noisy


@dataclass(frozen=True)
class _Annealed(Wrapped):
    cads: CADS
    seeds: tuple[int, ...]
    per_sample: ClassVar[tuple[str, ...]] = ("seeds",)

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        if self.cads.kept(level.time) == 1 or not needs.cond:
            return self.inner(x, level, needs)
        text = self.inner.text
        rows = [
            torch.randn(text.cond.shape[1:], generator=stream(seed, f"cads {level.timestep}"))
            for seed in self.seeds
        ]
        noise = torch.stack(rows).to(text.cond)
        cond = self.cads.noised(text.cond, noise, level.time)
        return self.inner.with_text(text._replace(cond=cond))(x, level, needs)


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2), keepdim=True)


def _deviation(values: Tensor) -> Tensor:
    return values.std((1, 2), keepdim=True)
