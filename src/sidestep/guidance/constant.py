"""Plain classifier-free guidance: one scale at every step (Ho and Salimans, 2022)."""

from dataclasses import dataclass, replace

import torch

from sidestep.guidance.base import Guided, Needs, Prediction, Rule, combine, only
from sidestep.guidance.schedules import OpenScale, check, scale_at


@dataclass(frozen=True)
class Constant(Rule[None]):
    """The same guidance at every step.

    `scale` is a number, a `Scheduled` function of time, or None for the caller's own: the
    pipeline's in `sidestep.guide`, 7.5 in our own loop.
    """

    scale: OpenScale = None

    def __post_init__(self) -> None:
        """Refuse a scale that is not finite."""
        check("scale", self.scale)

    def with_scale(self, scale: float) -> "Constant":
        """This rule with the caller's scale where it leaves one open; else itself."""
        return self if self.scale is not None else replace(self, scale=scale)

    def init(self, batch: int, device: torch.device | str = "cpu") -> None:
        """No memory."""

    def needs(self, time: float) -> Needs:
        """One branch at scale 0 or 1, else both."""
        return only(scale_at(self.scale, time))

    def step(self, prediction: Prediction, state: None) -> tuple[Guided, None]:
        """Guide one step; the transition counts as reached from the start."""
        batch, device = len(prediction.cond), prediction.cond.device
        scale = torch.full(
            (batch,), scale_at(self.scale, prediction.time), dtype=torch.float32, device=device
        )
        on = torch.ones(batch, dtype=torch.bool, device=device)
        return Guided(combine(prediction, scale), scale, on, ~on), None
