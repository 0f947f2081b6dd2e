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
from sidestep.guidance.base import Guided, Needs, Prediction, Rule, combine
from sidestep.sampling.trace import Trace


class Step(NamedTuple):
    """What one observed step leaves; its tensors stay where they are, one number a sample."""

    time: float
    gap: Tensor  # (B,), of no meaning where one prediction was computed
    guided: Guided  # its noise, (B, 1), means nothing
    both: list[bool]  # of each sample: both predictions were computed


class Collapsed(NamedTuple):
    """Both predictions as the pipeline shall see them, (B, *S), and the samples left alone."""

    uncond: Tensor
    cond: Tensor
    own: Tensor  # (B,) bool


class Generation:
    """The rule's memory and record over one generation of `batch` samples."""

    def __init__(self, rule: Rule[Any], batch: int, device: torch.device) -> None:
        self.rule, self.batch, self.device = rule, batch, device
        # A rule that leaves its scale open answers another rule when it is given one.
        self.open = rule.with_scale(1.0) is not rule
        self.state = rule.init(batch, device)
        self.steps: list[Step] = []
        self.own_scales: list[float | None] = []  # the pipeline's scale at each step
        self.nfe = [0] * batch
        self.plain = 0
        self._level: Level | None = None
        self._observing = False

    def _observed(self, level: Level, held: bool) -> bool:
        """Whether an evaluation is a step of its own.

        The second one within a step is not, nor is one at a level that is not lower than the last:
        the decision of the step holds for it.
        """
        last = self._level
        return last is None or (not held and level.snr > last.snr * (1 + 1e-6))

    def needs(self, level: Level, held: bool) -> list[Needs]:
        """What each sample needs of an evaluation at that level."""
        decided = level if self._observed(level, held) or self._level is None else self._level
        return self.rule.needs_each(decided.time, self.batch)

    def begin(self, level: Level, held: bool) -> list[Needs]:
        """The coming evaluation is at that level; what each sample needs of it."""
        self._observing = self._observed(level, held)
        needs = self.needs(level, held)
        self._level = level if self._observing else self._level
        return needs

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
        self.plain += 2
        self.nfe = [n + m.uncond + m.cond for n, m in zip(self.nfe, made, strict=True)]
        if self._observing:
            self._observe(uncond, cond, made, channels)
        if len(self.own_scales) < len(self.steps):
            self.own_scales.append(scale)
        guided = self.steps[-1].guided
        own = guided.on if self.open else torch.zeros_like(guided.on)
        target = _at(guided.scale, uncond, cond)
        mask = own.view(-1, *[1] * (uncond.ndim - 1))
        return Collapsed(torch.where(mask, uncond, target), torch.where(mask, cond, target), own)

    def _observe(
        self, uncond: Tensor, cond: Tensor, made: Sequence[Needs], channels: int | None
    ) -> None:
        """Ask the rule. It is shown the gap alone: a picture would be combined twice, and kept."""
        assert self._level is not None
        time, unit = self._level.time, self._level.unit
        u = uncond[:, :channels]
        c = u if uncond is cond else cond[:, :channels]
        gap = Prediction(u, c, time).gap * unit
        zero = torch.zeros_like(gap)[:, None]
        seen = Prediction(zero, zero if u is c else gap[:, None], time)
        guided, self.state = self.rule.step(seen, self.state)
        self.steps.append(Step(time, gap, guided, [n.uncond and n.cond for n in made]))

    def broken(self) -> int | None:
        """The first step at which a gap is not a finite number, None if all are."""
        finite = torch.stack([step.gap for step in self.steps]).isfinite().tolist()
        for index, (step, fine) in enumerate(zip(self.steps, finite, strict=True)):
            if any(both and not ok for both, ok in zip(step.both, fine, strict=True)):
                return index
        return None

    def trace(self) -> Trace:
        """The record so far, of one step at least; each field of all steps comes over at once.

        A scale that is the pipeline's own and not known is NaN.
        """
        steps, nan = self.steps, torch.nan
        gap, scale, on, fell_back = (
            torch.stack(part).cpu()
            for part in zip(*((s.gap, *s.guided[1:]) for s in steps), strict=True)
        )
        if self.open:
            known = torch.tensor([nan if own is None else own for own in self.own_scales])
            scale = torch.where(on, known[:, None], scale)
        came_on, first = on.any(dim=0), on.int().argmax(dim=0)
        return Trace(
            time=torch.tensor([s.time for s in steps], dtype=torch.float64),
            gap=torch.where(torch.tensor([s.both for s in steps]), gap, nan),
            scale=scale,
            transition=torch.where(came_on, first, -1),
            fell_back=came_on & fell_back.gather(0, first[None])[0],
            nfe=torch.tensor(self.nfe),
            plain=torch.full((self.batch,), self.plain),
        )


def _at(scale: Tensor, uncond: Tensor, cond: Tensor) -> Tensor:
    """The prediction at one scale per sample, in float32 or better; 0 and 1 are exact."""
    if uncond is cond:
        return uncond
    wide = torch.promote_types(uncond.dtype, torch.float32)
    blend = combine(Prediction(uncond.to(wide), cond.to(wide), 0.0), scale).to(uncond.dtype)
    weight = scale.view(-1, *[1] * (uncond.ndim - 1))
    return torch.where(weight == 1, cond, torch.where(weight == 0, uncond, blend))
