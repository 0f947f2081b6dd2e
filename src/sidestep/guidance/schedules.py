"""Guidance scales that change with time: the schedule shapes of the released scripts.

With s = time in [0, 1] (1 = noise) and w the nominal scale:

    constant  w                 linear    w (1 - s)          invlinear  w s
    cosine    w (cos(pi s) + 1) sine      w (sin(pi s - pi/2) + 1)
    v         w (1 - s) if s > 0.5 else w s
    a         w (1 - s) if s < 0.5 else w s

Source: SonyResearch/mitigating_memorization, options --CFG_scheduling (baselines of Jain et al.).
By these formulas v is a tent, highest at s = 0.5, and a is a dip there, the opposite of what their
names draw; the formulas are what is kept.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sidestep.guidance.base import check_scale

Shape = Literal["constant", "linear", "invlinear", "cosine", "sine", "v", "a"]


@dataclass(frozen=True)
class Scheduled:
    """A guidance scale as a function of time; usable wherever a rule takes a scale."""

    shape: Shape
    scale: float = 7.5

    def __post_init__(self) -> None:
        """Refuse an unknown shape or a scale that is not finite."""
        if self.shape not in get_args(Shape):
            known = ", ".join(get_args(Shape))
            raise ValueError(f"shape is {self.shape!r}; known schedule shapes are {known}")
        check_scale("scale", self.scale)

    def at(self, time: float) -> float:
        """The scale at that time."""
        s = time
        match self.shape:
            case "constant":
                factor = 1.0
            case "linear":
                factor = 1 - s
            case "invlinear":
                factor = s
            case "cosine":
                factor = math.cos(math.pi * s) + 1
            case "sine":
                factor = math.sin(math.pi * s - math.pi / 2) + 1
            case "v":
                factor = 1 - s if s > 0.5 else s
            case "a":
                factor = 1 - s if s < 0.5 else s
        return self.scale * factor


Scale = float | Scheduled
OpenScale = Scale | None  # None leaves the scale to the caller
DEFAULT_SCALE = 7.5  # what an open scale is where no caller has one of its own


def scale_at(scale: OpenScale, time: float) -> float:
    """The number behind a scale at that time; DEFAULT_SCALE for one that is left open."""
    if scale is None:
        return DEFAULT_SCALE
    return scale.at(time) if isinstance(scale, Scheduled) else float(scale)


def check(name: str, scale: OpenScale) -> None:
    """Refuse a scale that is not finite."""
    if scale is not None and not isinstance(scale, Scheduled):
        check_scale(name, scale)
