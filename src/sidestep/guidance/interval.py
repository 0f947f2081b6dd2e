"""Guidance interval: guidance at middle noise levels only, the conditional prediction elsewhere.

    scale(t) = scale if stop < t <= start else 1

Source: Kynkäänniemi et al., Applying Guidance in a Limited Interval Improves Sample and
Distribution Quality in Diffusion Models, NeurIPS 2024, arXiv:2404.07724. It was made for quality:
outside the interval the prompt's prediction is followed, which still leads into the basin of a
memorized picture, where `Static(before=0)` follows the unconditional one.

The paper gives its bounds as EDM's sigma. `time_of_snr(snr_of_edm(sigma))`, both in
`sidestep.sampling.noise`, is the time of one: (0.28, 5.42] of its SDXL is the default here,
(0.19, 1.61] of its EDM2-XXL is (0.037, 0.498].
"""

from dataclasses import dataclass

import torch

from sidestep.guidance.base import (
    Guided,
    Needs,
    Prediction,
    Rule,
    check_time,
    combine,
    only,
    single,
)
from sidestep.guidance.schedules import Scale, check, scale_at


@dataclass(frozen=True)
class Interval(Rule[None]):
    """The scale `scale` while stop < time <= start, the conditional prediction before and after.

    Times lie in [0, 1], 1 = noise, and are compared in float32. `scale` is a number or `Scheduled`,
    and never the caller's own: a pipeline would go on with it behind the interval. Outside the
    interval one prediction is asked for instead of two. The transition is the first step inside.
    """

    start: float = 0.813
    stop: float = 0.072
    scale: Scale = 7.5

    def __post_init__(self) -> None:
        """Refuse times outside [0, 1] or in the wrong order, and a scale that is not finite."""
        check_time("start", self.start)
        check_time("stop", self.stop)
        if self.stop > self.start:
            raise ValueError(
                f"start is {self.start} and stop {self.stop}; time runs from 1 down to 0, so stop "
                "must not be above start"
            )
        check("scale", self.scale)

    def with_scale(self, scale: float) -> "Interval":
        """Itself: it leaves no scale open."""
        return self

    def init(self, batch: int, device: torch.device | str = "cpu") -> None:
        """No memory."""

    def needs(self, time: float) -> Needs:
        """What the scale needs inside the interval, the conditional prediction outside."""
        return only(self._scale(time))

    def step(self, prediction: Prediction, state: None) -> tuple[Guided, None]:
        """Guide one step."""
        batch, device = len(prediction.cond), prediction.cond.device
        time = prediction.time
        scale = torch.full((batch,), self._scale(time), dtype=torch.float32, device=device)
        on = torch.full((batch,), single(time) <= single(self.start), device=device)
        return Guided(combine(prediction, scale), scale, on, torch.zeros_like(on)), None

    def _scale(self, time: float) -> float:
        inside = single(self.stop) < single(time) <= single(self.start)
        return scale_at(self.scale, time) if inside else 1.0
