"""What the tests of the guider share: tiny pipelines, our guider and the stock one."""

from functools import cache

import diffusers
from reference import guided_pipelines

import sidestep


@cache
def tiny(name):
    """A pipeline by name, built once."""
    return guided_pipelines.ALL[name]()


def guider(family, rule, scale=7.5, **kwargs):
    """Our guider for a pipeline."""
    return sidestep.Guider(rule, scale, scheduler=family.pipe.scheduler, **kwargs)


def stock(family, scale=7.5, **kwargs):
    """What the stock guider samples."""
    return family.run(diffusers.ClassifierFreeGuidance(guidance_scale=scale, **kwargs))
