"""Every scheduler that the Stable Diffusion pipeline is used with.

PNDM as diffusers makes it warms up with four evaluations a step; PLMS is the same class as the
released Stable Diffusion models configure it, which repeats one timestep.
"""

import inspect
from functools import partial
from typing import Any

from adapters.families.base import Family
from adapters.families.sd import BETAS, pipeline, sd

# Short name, class, what differs from its defaults.
TABLE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("DDIM", "DDIMScheduler", {"clip_sample": False}),
    ("DDPM", "DDPMScheduler", {"clip_sample": False}),
    ("PNDM", "PNDMScheduler", {}),
    ("PLMS", "PNDMScheduler", {"skip_prk_steps": True}),
    ("DPM++multi", "DPMSolverMultistepScheduler", {}),
    ("DPM++single", "DPMSolverSinglestepScheduler", {}),
    ("Euler", "EulerDiscreteScheduler", {}),
    ("EulerA", "EulerAncestralDiscreteScheduler", {}),
    ("Heun", "HeunDiscreteScheduler", {}),
    ("KDPM2", "KDPM2DiscreteScheduler", {}),
    ("KDPM2A", "KDPM2AncestralDiscreteScheduler", {}),
    ("LMS", "LMSDiscreteScheduler", {}),
    ("UniPC", "UniPCMultistepScheduler", {}),
    ("DEIS", "DEISMultistepScheduler", {}),
    ("LCM", "LCMScheduler", {"clip_sample": False}),
    ("SASolver", "SASolverScheduler", {}),
)


def scheduler(name: str, options: dict[str, Any]) -> Any:
    import diffusers

    kind = getattr(diffusers, name)
    # As the released models set it; the pipeline warns about 0. Not every class has it.
    if "steps_offset" in inspect.signature(kind).parameters:
        options = {"steps_offset": 1, **options}
    return kind(**BETAS, **options)


SCHEDULERS: tuple[Family, ...] = tuple(
    sd(f"sd-{short}", make=partial(pipeline, "StableDiffusionPipeline", partial(scheduler, *row)))
    for short, *row in TABLE
)
