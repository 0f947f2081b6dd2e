"""Dynamic transition point: hold guidance back until the gap has passed its first local minimum.

With d_j the gap ||cond - uncond|| at step j of the trajectory that is followed, guidance comes on
at the first j with d_{j-2} > d_{j-1} < d_j and stays on. Source: Jain et al., CVPR 2025,
arXiv:2411.16738; with `before < 0` their opposite guidance with a dynamic transition point.

Ours on top of the paper: a smallest drop that a minimum must have to count, an earliest and a
latest time for it, and a fallback time at which guidance comes on anyway (the paper's rule leaves
a sample that shows no minimum without guidance to the end).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.base import (
    BOTH,
    Guided,
    Needs,
    Prediction,
    Rule,
    check_batch,
    check_time,
    combine,
)
from sidestep.guidance.schedules import OpenScale, Scale, check, scale_at


class GapState(NamedTuple):
    """Memory of one run; every field has shape (B,)."""

    gap: Tensor  # gap of the last step, float32
    highest: Tensor  # highest gap so far, float32
    falling: Tensor  # bool: the last gap was lower than the one before it
    seen: Tensor  # bool: a minimum that counts has been passed
    on: Tensor  # bool: guidance is on
    fell_back: Tensor  # bool: it was the fallback time that turned it on


@dataclass(frozen=True)
class Dynamic(Rule[GapState]):
    """Scale `before` up to the first local minimum of the gap, scale `after` from then on.

    A minimum counts if it lies at least the share `drop` below the highest gap so far (0 = the
    paper's rule) and was passed at a time not below `latest`. Before `earliest` guidance never
    comes on: a minimum passed sooner turns it on at `earliest`, because guidance so early pulls a
    sample back into the basin it has just left. From the time `fallback` on guidance is on for
    every sample; None means never. Times lie in [0, 1], 1 = noise. `after=None` is the caller's own
    scale: the pipeline's in `sidestep.guide`, 7.5 in our own loop.

    `Dynamic(drop=0, earliest=1, latest=0, fallback=None)` is the paper's rule to the letter.
    """

    before: Scale = 0.0
    after: OpenScale = None
    drop: float = 0.0
    earliest: float = 0.75
    latest: float = 0.0
    fallback: float | None = 0.6

    def __post_init__(self) -> None:
        """Refuse scales that are not finite, times outside [0, 1] and a window that is empty."""
        check("before", self.before)
        check("after", self.after)
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is {self.drop}; it is a share of the highest gap, in [0, 1)")
        check_time("earliest", self.earliest)
        check_time("latest", self.latest)
        if self.fallback is not None:
            check_time("fallback", self.fallback)
            if self.fallback > self.earliest:
                raise ValueError(
                    f"fallback is {self.fallback} and earliest {self.earliest}; time runs from 1 "
                    "down to 0, so fallback must not be above earliest"
                )
        if self.latest > self.earliest:
            raise ValueError(
                f"latest is {self.latest} and earliest {self.earliest}; time runs from 1 down to "
                "0, so latest must not be above earliest"
            )

    def with_scale(self, scale: float) -> "Dynamic":
        """This rule with the caller's scale after the transition if it leaves that open."""
        return self if self.after is not None else replace(self, after=scale)

    def init(self, batch: int, device: torch.device | str = "cpu") -> GapState:
        """State before the first step; gaps of -inf keep the first step from being a minimum."""
        low = torch.full((batch,), -torch.inf, dtype=torch.float32, device=device)
        no = torch.zeros(batch, dtype=torch.bool, device=device)
        return GapState(low, low, falling=no, seen=no, on=no, fell_back=no)

    def needs(self, time: float) -> Needs:
        """Both predictions: the gap is the clock."""
        return BOTH

    def step(self, prediction: Prediction, state: GapState) -> tuple[Guided, GapState]:
        """Guide one step.

        Raises ValueError if the state was made for another batch size, or if the prediction holds
        one branch only: without the gap the rule is blind and would wait for the fallback.
        """
        check_batch(state.gap, prediction)
        if prediction.cond is prediction.uncond:
            raise ValueError(
                f"the step at time {prediction.time} has one prediction and no gap; the dynamic "
                "rule needs cond and uncond at every step"
            )
        gap, time = prediction.gap, prediction.time
        deep = state.gap <= state.highest * (1 - self.drop)
        passed = state.falling & (gap > state.gap) & deep
        seen = state.seen | (passed if time >= self.latest else torch.zeros_like(passed))
        fallen = self.fallback is not None and time <= self.fallback
        signal = seen & (time <= self.earliest)
        on = state.on | signal | fallen
        fell_back = state.fell_back | (on & ~state.on & ~signal)
        scale = torch.where(on, scale_at(self.after, time), scale_at(self.before, time)).float()
        highest = torch.maximum(state.highest, gap)
        state = GapState(gap, highest, gap < state.gap, seen, on, fell_back)
        return Guided(combine(prediction, scale), scale, on, fell_back), state
