"""Tiny pipelines of every supported family, made in code with random weights.

Each builds in well under a second, without a model hub, and reacts to its prompt strongly enough
that a wrong row cannot hide in rounding.
"""

from adapters.families import audio, condfirst, controlnet, dit, sd, sdxl, separate, video
from adapters.families.base import Family
from adapters.families.schedulers import SCHEDULERS

FAMILIES: tuple[Family, ...] = (
    *sd.FAMILIES,
    *controlnet.FAMILIES,
    *sdxl.FAMILIES,
    *dit.FAMILIES,
    *condfirst.FAMILIES,
    *separate.FAMILIES,
    *video.FAMILIES,
    *audio.FAMILIES,
)

__all__ = ["FAMILIES", "SCHEDULERS", "Family"]
