"""Static transition point: one scale until a fixed time, another from then on.

    scale(t) = before if t > time else after

Source: Jain et al., CVPR 2025, arXiv:2411.16738. With `before=0` it is their static transition
point, with `before < 0` opposite guidance with a static transition point. `before=1` follows the
conditional prediction instead; it is another method and keeps most copies.
"""

from dataclasses import dataclass, replace

import torch

from sidestep.guidance.base import (
    BOTH,
    Guided,
    Needs,
    Prediction,
    Rule,
    check_batch,
    check_time,
    combine,
    only,
    single,
)
from sidestep.guidance.schedules import OpenScale, Scale, check, scale_at


@dataclass(frozen=True)
class Static(Rule[torch.Tensor]):
    """Scale `before` while time > `time`, scale `after` from then on.

    `time` is a diffusion time in [0, 1] (0.5 = Stable Diffusion's t of 500), or a tuple with one
    time per sample of the batch; times are compared in float32. `before` and `after` are numbers
    or `Scheduled`; `after=None` is the caller's own scale: the pipeline's in `sidestep.guide`, 7.5
    in our own loop. While samples lie on both sides of their times, our own loop makes both
    predictions for all of them.
    """

    time: float | tuple[float, ...] = 0.5
    before: Scale = 0.0
    after: OpenScale = None

    def __post_init__(self) -> None:
        """Refuse times outside [0, 1] and scales that are not finite."""
        if self.time == ():
            raise ValueError("time holds no times; give one for all samples or one for each")
        for value in self._given():
            check_time("time", value)
        check("before", self.before)
        check("after", self.after)

    def _given(self) -> tuple[float, ...]:
        return self.time if isinstance(self.time, tuple) else (self.time,)

    def _times(self) -> tuple[float, ...]:
        return tuple(single(t) for t in self._given())

    def with_scale(self, scale: float) -> "Static":
        """This rule with the caller's scale after the transition if it leaves that open."""
        return self if self.after is not None else replace(self, after=scale)

    def init(self, batch: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """The transition time of each sample, (B,) float32."""
        times = self._times()
        if len(times) not in (1, batch):
            raise ValueError(
                f"time holds {len(times)} times for a batch of {batch}; give one for all or one "
                "for each"
            )
        return torch.tensor(times, dtype=torch.float32, device=device).expand(batch)

    def needs(self, time: float) -> Needs:
        """Before every sample's transition what `before` needs, after it what `after` needs."""
        if single(time) > max(self._times()):
            return only(scale_at(self.before, time))
        if single(time) <= min(self._times()):
            return only(scale_at(self.after, time))
        return BOTH

    def needs_each(self, time: float, batch: int) -> list[Needs]:
        """What the sample of each given time needs."""
        before, after = (only(scale_at(scale, time)) for scale in (self.before, self.after))
        each = [after if single(time) <= own else before for own in self._times()]
        return each * batch if len(each) == 1 else each

    def step(self, prediction: Prediction, state: torch.Tensor) -> tuple[Guided, torch.Tensor]:
        """Guide one step. Raises ValueError if the state was made for another batch size."""
        check_batch(state, prediction)
        time = prediction.time
        on = state >= single(time)
        scale = torch.where(on, scale_at(self.after, time), scale_at(self.before, time)).float()
        no = torch.zeros_like(on)
        return Guided(combine(prediction, scale), scale, on, no), state
