"""One generation under a rule: steps in, collapsed predictions and a trace out. Torch only.

A sample whose pipeline must not use its own formula gets `uncond' = cond' = g`, with g at the
rule's scale: every combination whose weights sum to 1 then returns g, whatever its convention,
renormalisation or rescale. A sample whose scale the rule leaves to the pipeline is not touched, to
the bit. Weights that sum to 1 combine raw outputs as they combine noise predictions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.adapters.levels import Level
from sidestep.adapters.stepper import Stepper
from sidestep.guidance.base import Needs, Prediction, Rule, combine
from sidestep.sampling.trace import Trace


class Collapsed(NamedTuple):
    """Both predictions as the pipeline shall see them, (B, *S), and the samples left alone."""

    uncond: Tensor
    cond: Tensor
    own: Tensor  # (B,) bool


class Generation:
    """A rule over one generation of `batch` samples, and what the pipeline is shown of it."""

    def __init__(self, rule: Rule[Any], batch: int, device: torch.device) -> None:
        self.batch = batch
        self.stepper = Stepper(rule)
        self.stepper.expect(batch, device)
        # A rule that leaves its scale open answers another rule when it is given one.
        self.open = rule.with_scale(1.0) is not rule
        self.own_scales: list[float | None] = []  # the pipeline's scale at each step

    def needs(self, level: Level, held: bool) -> list[Needs]:
        """What each sample needs of an evaluation at that level."""
        return self.stepper.rule.needs_each(self.stepper.time(level, held), self.batch)

    def begin(self, level: Level, held: bool) -> list[Needs]:
        """The coming evaluation is at that level; what each sample needs of it."""
        return self.stepper.rule.needs_each(self.stepper.begin(level, held), self.batch)

    def collapse(
        self,
        uncond: Tensor,
        cond: Tensor,
        made: Sequence[Needs],
        scale: float | None,
        channels: int | None = None,
    ) -> Collapsed:
        """Decide, and give both predictions (B, *S) back as the pipeline shall combine them.

        `made` says which of the two was computed for each sample; the other is a copy of it, and
        if that is so for all samples the two are one tensor. `scale` is the pipeline's own, None
        if it is not known. `channels` of the first dimension after the batch are the prediction.
        """
        seen = uncond[:, :channels]
        guided = self.stepper.decide(seen, seen if uncond is cond else cond[:, :channels], made)
        if len(self.own_scales) < len(self.stepper.steps):
            self.own_scales.append(scale)
        own = guided.on if self.open else torch.zeros_like(guided.on)
        target = _at(guided.scale, uncond, cond)
        mask = own.view(-1, *[1] * (uncond.ndim - 1))
        return Collapsed(torch.where(mask, uncond, target), torch.where(mask, cond, target), own)

    def broken(self) -> int | None:
        """The first step at which a gap is not a finite number, None if all are."""
        found = self.stepper.lost().any(dim=1).nonzero().flatten().tolist()
        return found[0] if found else None

    def trace(self) -> Trace:
        """The record so far; a scale that is the pipeline's own and not known is NaN."""
        return self.stepper.trace(self.own_scales if self.open else None)


def _at(scale: Tensor, uncond: Tensor, cond: Tensor) -> Tensor:
    """The prediction at one scale per sample, in float32 or better; 0 and 1 are exact."""
    if uncond is cond:
        return uncond
    wide = torch.promote_types(uncond.dtype, torch.float32)
    blend = combine(Prediction(uncond.to(wide), cond.to(wide), 0.0), scale).to(uncond.dtype)
    weight = scale.view(-1, *[1] * (uncond.ndim - 1))
    return torch.where(weight == 1, cond, torch.where(weight == 0, uncond, blend))
