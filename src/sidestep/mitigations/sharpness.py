"""SAIL: descend the sharpness of the prompt's pull over first noise.

With s(x) = -(cond - uncond) / sigma the difference of the two scores at the first level:

    loss(x) = ||s(x + delta s(x)) - s(x)||^2 + alpha ||x||^2

The first term is the curvature along s, by a finite difference; the second holds x to a Gaussian.
Adam descends until ||cond - uncond|| is at most a target.

Source: Jeon et al., Understanding and Mitigating Memorization in Generative Models via Sharpness
of Probability Landscapes, ICML 2025, arXiv:2412.04140, algorithm 2. The paper stops at a threshold
of the loss, most of which is alpha ||x||^2 and so grows with the resolution; here the target is a
norm of the difference alone. Its released script has another loss (unit steps, no subtraction, no
squares), for which its settings were tuned; they mean nothing here.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.denoiser import Denoiser, Level
from sidestep.mitigations.base import Start, check_finite, check_gradients
from sidestep.mitigations.descent import descend, difference, norms
from sidestep.rng import stream


@dataclass(frozen=True)
class SharpnessAware:
    """Descend the loss over first noise until ||cond - uncond|| is at most `target`.

    The norm is of noise predictions over a whole latent and grows with the square root of its size;
    the thresholds of the released script stand for about 1.8 in Stable Diffusion 1.4. Infinity is
    met by every sample, which then stays as it is.

    Each sample has `candidates` first noises that descend together, its own among them; the first
    to meet the target is taken. If none has after `limit` updates, a round begins with fresh ones,
    up to `rounds` of them. A sample that no round helped takes its best candidate and is reported
    as not reached. `delta`, `gaussianity` (alpha) and `rate` (Adam's) are those of the loss above;
    the defaults of the first two are ours, with which the embedded model's descends.

    Cost of a candidate that never meets the target: 4 evaluations and 4 passes backward for each
    update, and 2 evaluations more.
    """

    target: float = 1.8
    delta: float = 1.0
    gaussianity: float = 1e-4
    rate: float = 0.05
    limit: int = 10
    candidates: int = 1
    rounds: int = 1

    name: ClassVar[str] = "sharpness-aware"

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if math.isnan(self.target):
            raise ValueError("target is nan; it is a norm of noise predictions, such as 1.8")
        check_finite(delta=self.delta, gaussianity=self.gaussianity, rate=self.rate)
        for name, least in (("limit", 0), ("candidates", 1), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {least}")

    def begin(self, start: Start) -> Start:
        """The run with other first noise; `reached` says which samples met the target.

        Raises SidestepError under `torch.inference_mode` and Unfit for a network that lets no
        gradients through.
        """
        check_gradients(self.name)
        device = start.x.device
        best = _Best.of(start.x)
        for number in range(self.rounds):
            rows = (best.gap > self.target).nonzero()[:, 0]
            if len(rows) == 0:
                break
            many = rows.repeat_interleave(self.candidates)
            level = start.levels[0]
            found = descend(
                start.denoiser.select(many),
                level,
                torch.stack([x for i in rows.tolist() for x in self._drawn(start, i, number)]),
                target=self.target,
                limit=self.limit,
                optimizer=partial(torch.optim.Adam, lr=self.rate),
                loss=partial(self._loss, level=level),
                group=self.candidates,
            )
            gap = found.gap.view(-1, self.candidates)
            first = torch.arange(len(rows), device=device) * self.candidates
            taken = first + gap.argmin(dim=1)
            best = best.updated(rows, found.x[taken], found.gap[taken])
            best.nfe[rows] += found.nfe.view(-1, self.candidates).sum(dim=1)
            best.backward[rows] += found.backward.view(-1, self.candidates).sum(dim=1)
        reached = best.gap <= self.target
        return replace(start, x=best.x).done(self.name, reached, best.nfe, best.backward)

    def _drawn(self, start: Start, sample: int, number: int) -> list[Tensor]:
        """The candidates of one sample in one round; the very first is the noise it came with."""
        own, random = start.x[sample], stream(start.seeds[sample], f"{self.name} {number}")
        fresh = [
            torch.randn(own.shape, generator=random, dtype=torch.float32).to(own)
            for _ in range(self.candidates - (number == 0))
        ]
        return [own, *fresh] if number == 0 else fresh

    def _loss(
        self, denoiser: Denoiser, x: Tensor, push: Tensor, *, level: Level
    ) -> tuple[Tensor, Tensor | int]:
        score = -push / level.sigma
        ahead, made = difference(denoiser, x + self.delta * score, level)
        bend = norms(-ahead / level.sigma - score)
        return bend**2 + self.gaussianity * norms(x) ** 2, made


class _Best(NamedTuple):
    """The best noise of each of B samples so far, and what the search has cost."""

    x: Tensor
    gap: Tensor  # (B,), infinite before the first look
    nfe: Tensor
    backward: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "_Best":
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return cls(x, torch.full_like(norms(x), torch.inf), none, none.clone())

    def updated(self, rows: Tensor, x: Tensor, gap: Tensor) -> "_Best":
        better = gap < self.gap[rows]
        rows = rows[better]
        new = self._replace(x=self.x.clone(), gap=self.gap.clone())
        new.x[rows], new.gap[rows] = x[better], gap[better]
        return new
