"""A rule along a generation that somebody else loops: what it decided, step by step.

One stepper for one generation. It sees noise levels and gaps, no pictures and no framework.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.adapters.levels import Level
from sidestep.guidance.base import Guided, Needs, Prediction, Rule
from sidestep.sampling.trace import Recorder, Trace


class Step(NamedTuple):
    """What one observed step leaves; its tensors stay where they are, one number a sample."""

    time: float
    gap: Tensor  # (B,), NaN where one prediction was computed
    guided: Guided  # its noise, (B, 1), means nothing
    both: Tensor  # (B,) bool, both predictions were computed


class Stepper:
    """Asks a rule step by step and keeps what it said.

    An evaluation of the network is not always a step: the second one of a second-order solver is
    not, nor is one at a level that is not lower than the last (a scheduler that repeats a
    timestep). A gap measured twice at one level is no minimum, so the decision of the step holds.
    """

    def __init__(self, rule: Rule[Any]) -> None:
        """Before the first step; the batch is known by then or with the first predictions."""
        self.rule = rule
        self.steps: list[Step] = []
        self._level: Level | None = None  # of the last step
        self._observing = False
        self._state: Any = None
        self._nfe: list[int] = []
        self._plain = 0

    def expect(self, batch: int, device: torch.device) -> None:
        """So many samples are coming; raises ValueError where the rule is for another number."""
        self._state = self.rule.init(batch, device)
        self._nfe = [0] * batch

    def time(self, level: Level, held: bool) -> float:
        """The time at which the rule decides about an evaluation at that level.

        `held` is whether the solver is in the middle of a step.
        """
        new = self._is_step(level, held)
        return level.time if new or self._level is None else self._level.time

    def begin(self, level: Level, held: bool) -> float:
        """Go on to an evaluation at that level; the time at which the rule decides about it."""
        time = self.time(level, held)
        self._observing = self._is_step(level, held)
        self._level = level if self._observing else self._level
        return time

    def _is_step(self, level: Level, held: bool) -> bool:
        last = self._level
        return last is None or (not held and level.snr > last.snr * (1 + 1e-6))

    def decide(self, uncond: Tensor, cond: Tensor, made: Sequence[Needs]) -> Guided:
        """The decision for predictions (B, *S) in the model's own units; its noise means nothing.

        `made` says which of the two was computed for each sample; the other is a copy of it, and
        if that is so for all samples the two are one tensor. Raises ValueError before `begin`.
        """
        if self._level is None:
            raise ValueError("there is no step to decide on; call begin() with its level first")
        if not self._nfe:
            self.expect(len(cond), cond.device)
        self._plain += 2
        self._nfe = [n + m.uncond + m.cond for n, m in zip(self._nfe, made, strict=True)]
        if self._observing:
            self._observe(uncond, cond, made)
        return self.steps[-1].guided

    def _observe(self, uncond: Tensor, cond: Tensor, made: Sequence[Needs]) -> None:
        """Ask the rule. It is shown the gap alone: a picture would be combined twice, and kept."""
        assert self._level is not None
        time = self._level.time
        gap = Prediction(uncond, cond, time).gap * self._level.unit
        zero = torch.zeros_like(gap)[:, None]
        seen = Prediction(zero, zero if uncond is cond else gap[:, None], time)
        guided, self._state = self.rule.step(seen, self._state)
        both = torch.tensor([n.uncond and n.cond for n in made], device=gap.device)
        self.steps.append(Step(time, torch.where(both, gap, torch.nan), guided, both))

    def lost(self) -> Tensor:
        """Where a gap that should be there is not a finite number, (T, B) bool."""
        return torch.stack([step.both & ~step.gap.isfinite() for step in self.steps])

    def trace(self, own: Sequence[float | None] | None = None) -> Trace:
        """The record so far, a row for each step; evaluations between steps are counted.

        `own` is the scale at which the loop itself guides from the transition on, at each step,
        for a rule that leaves it to the loop; None where it is not known, which leaves NaN.
        """
        batch = len(self._nfe)
        recorder = Recorder(batch, [step.time for step in self.steps])
        everyone = torch.arange(batch)
        for index, step in enumerate(self.steps):
            guided = step.guided
            if own is not None:
                known = own[index]
                scale = torch.full_like(guided.scale, torch.nan if known is None else known)
                guided = guided._replace(scale=torch.where(guided.on, scale, guided.scale))
            recorder.add(index, everyone, step.gap, guided, 0)
        recorder.nfe = torch.tensor(self._nfe, dtype=torch.int64)
        recorder.plain = torch.full((batch,), self._plain)
        return recorder.trace()
