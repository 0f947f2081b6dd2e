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
from sidestep.sampling.trace import Recorder, Trace


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
        """The record so far; a scale that is the pipeline's own and not known is NaN."""
        recorder = Recorder(self.batch, [step.time for step in self.steps])
        everyone = torch.arange(self.batch)
        for index, step in enumerate(self.steps):
            guided = step.guided
            if self.open:
                known = self.own_scales[index]
                scale = torch.full_like(guided.scale, torch.nan if known is None else known)
                guided = guided._replace(scale=torch.where(guided.on, scale, guided.scale))
            gap = torch.where(torch.tensor(step.both), step.gap.cpu(), torch.nan)
            recorder.add(index, everyone, gap, guided, 0)
        # Some evaluations belong to a step that is observed already.
        recorder.nfe = torch.tensor(self.nfe)
        recorder.plain = torch.full((self.batch,), self.plain)
        return recorder.trace()


def _at(scale: Tensor, uncond: Tensor, cond: Tensor) -> Tensor:
    """The prediction at one scale per sample, in float32 or better; 0 and 1 are exact."""
    if uncond is cond:
        return uncond
    wide = torch.promote_types(uncond.dtype, torch.float32)
    blend = combine(Prediction(uncond.to(wide), cond.to(wide), 0.0), scale).to(uncond.dtype)
    weight = scale.view(-1, *[1] * (uncond.ndim - 1))
    return torch.where(weight == 1, cond, torch.where(weight == 0, uncond, blend))
