"""Adjusting the first noise, so that a sample leaves the basin sooner.

With D(x) = cond - uncond at the first level and x the first noise of one sample:

    batch-wise   M times:  u = rho D(x) / ||D(x)||;   x <- x - gamma (D(x + u) - D(x))
    per sample   AdamW on ||D(x)|| over x, until it is at most a target

Batch-wise needs no gradient and 4 M evaluations. It moves the transition to an earlier time, and
is meant together with `Static(before=0)`. Per sample is meant with plain guidance from the first
step, and costs two evaluations a look and two passes backward an update.

Source: Han et al., Adjusting Initial Noise to Mitigate Memorization in Text-to-Image Diffusion
Models, NeurIPS 2025, arXiv:2510.08625. Norms are of noise predictions over a whole latent: they
grow with the square root of its size, and so must the targets.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from sidestep.guidance.denoiser import Denoiser
from sidestep.mitigations.base import Start, check_finite, check_gradients
from sidestep.mitigations.descent import descend, difference, norms, times


@dataclass(frozen=True)
class BatchwiseNoise:
    """Move first noise down the difference's slope along itself, `rounds` times (M in the paper).

    `step` is gamma; 0 is plain guidance. `radius` is rho, in the units of the latents. The paper's
    settings: Stable Diffusion 1.4 step 0.7, radius 50, rounds 2 with guidance from time 0.9 on;
    2.0 step 0.7, radius 30, rounds 4 with guidance from time 0.917 on.
    """

    step: float = 0.7
    radius: float = 50.0
    rounds: int = 2

    name: ClassVar[str] = "batchwise-noise"

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite and a negative count."""
        check_finite(step=self.step, radius=self.radius)
        if self.rounds < 0:
            raise ValueError(f"rounds is {self.rounds}; it is a number of rounds, from 0 up")

    @torch.no_grad()
    def begin(self, start: Start) -> Start:
        """The run with other first noise."""
        x, level = start.x, start.levels[0]
        nfe = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for _ in range(self.rounds):
            here, one = difference(start.denoiser, x, level)
            length = norms(here)
            # Where the two predictions are equal there is no direction to look in, nor a pull.
            unit = torch.where(length > 0, self.radius / length, 0.0)
            there, other = difference(start.denoiser, x + times(unit, here), level)
            x = x - self.step * (there - here)
            nfe = nfe + one + other
        return replace(start, x=x).done(self.name, nfe=nfe)


@dataclass(frozen=True)
class PerSampleNoise:
    """Descend ||cond - uncond|| at the first level over first noise until it is at most `target`.

    A sample that is there already stays as it is. `limit` bounds the updates; a sample that has not
    met the target by then is used as it is and reported as not reached. `rate` and `decay` are
    AdamW's. `penalty` weighs (||x|| / sqrt(d) - 1)^2, which keeps noise of d numbers on the shell
    of a Gaussian; the paper has none of it and relies on the decay.

    The paper's settings: Stable Diffusion 1.4 rate 0.01 and targets 0.7 to 1.5; 2.0 rate 0.1 and
    targets 5 to 20.
    """

    target: float = 0.9
    limit: int = 1000
    rate: float = 0.01
    decay: float = 0.01
    penalty: float = 0.0

    name: ClassVar[str] = "per-sample-noise"

    def __post_init__(self) -> None:
        """Refuse numbers out of range; a target of infinity is met by every sample."""
        if math.isnan(self.target):
            raise ValueError("target is nan; it is a norm of noise predictions, such as 0.9")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}; it is a number of updates, from 0 up")
        check_finite(rate=self.rate, decay=self.decay, penalty=self.penalty)

    def begin(self, start: Start) -> Start:
        """The run with other first noise; `reached` says which samples met the target.

        Raises SidestepError under `torch.inference_mode` and Unfit for a network that lets no
        gradients through.
        """
        check_gradients(self.name)
        optimizer = partial(torch.optim.AdamW, lr=self.rate, weight_decay=self.decay)
        found = descend(
            start.denoiser,
            start.levels[0],
            start.x,
            target=self.target,
            limit=self.limit,
            optimizer=optimizer,
            loss=self._loss,
        )
        return replace(start, x=found.x).done(
            self.name, found.gap <= self.target, found.nfe, found.backward
        )

    def _loss(self, denoiser: Denoiser, x: Tensor, push: Tensor) -> tuple[Tensor, int]:
        shell = norms(x) / math.sqrt(x[0].numel())
        return norms(push) + self.penalty * (shell - 1) ** 2, 0
