"""A rule along a generation that somebody else loops: what it needs next, what it decides.

One stepper for one generation. It sees noise levels and gaps, no pictures and no framework.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.adapters.levels import Level
from sidestep.guidance.base import BOTH, Guided, Needs, Prediction, Rule
from sidestep.sampling.trace import Recorder, Trace


class Row(NamedTuple):
    """One step as it happened. Tensors stay where they were made: no copy waits for the device."""

    time: float
    gap: Tensor  # (B,) NaN where only one prediction was made
    guided: Guided
    needs: Needs


class Stepper:
    """Asks a rule step by step and keeps what it said."""

    def __init__(self, rule: Rule[Any]) -> None:
        """Before the first step; the batch is known with the first prediction."""
        self.rule = rule
        self.rows: list[Row] = []
        self.needs = BOTH
        self._level: Level | None = None
        self._observed: Level | None = None  # the level of the last new decision
        self._held: Guided | None = None
        self._state: Any = None

    def begin(self, level: Level, *, new: bool = True) -> Needs:
        """Go on to a level and say which predictions it needs.

        The decision of the last step is held, and nothing observed, where `new` is False (the
        second evaluation of a second-order step) and where the noise has not become less (a
        scheduler that repeats a timestep): a gap measured twice at one level is no minimum.
        """
        self._level = level
        last = self._observed
        if last is None or (new and level.snr > last.snr):
            self._observed, self._held = level, None
            self.needs = self.rule.needs(level.time)
        return self.needs

    def decide(self, uncond: Tensor, cond: Tensor) -> Guided:
        """The decision for predictions (B, *S) in the model's own units.

        Where `begin` asked for one of them, pass it as both. `noise` of the result is empty; the
        scale is what counts.
        """
        if self._level is None:
            raise ValueError("there is no step to decide on; call begin() with its level first")
        time, unit = self._level.time, self._level.unit
        gap = Prediction(uncond, cond, time).gap * unit
        if self._held is None:
            if self._state is None and not self.rows:
                self._state = self.rule.init(len(cond), cond.device)
            zero = torch.zeros_like(gap)[:, None]
            one_branch = cond is uncond
            seen = Prediction(zero, zero if one_branch else gap[:, None], time)
            self._held, self._state = self.rule.step(seen, self._state)
        self.rows.append(Row(time, gap, self._held, self.needs))
        return self._held

    def trace(self) -> Trace:
        """What happened so far; every evaluation of the network is a step of its own."""
        batch = len(self.rows[0].gap) if self.rows else 0
        recorder = Recorder(batch, [row.time for row in self.rows])
        for step, row in enumerate(self.rows):
            nfe = row.needs.uncond + row.needs.cond
            recorder.add(step, torch.arange(batch), row.gap, row.guided, nfe)
        return recorder.trace()
