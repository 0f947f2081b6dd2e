"""What the embedded scenario gives to mitigations that need more than numbers."""

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch

from sidestep.mitigations.antimemorization import References
from sidestep.mitigations.update_norm import Region
from sidestep.models.embedded import pictures

REGION = "update-region.json"  # written by training/calibrate_region.py


@cache
def targets() -> References:
    """The memorized pictures and their captions: what an owner would keep the model away from."""
    several = pictures.targets()
    pixels = np.stack([p.pixels for p in pictures.training_pictures()[: len(several)]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return References(images, tuple(target.caption for target in several))


@cache
def region() -> Region:
    """Norms of the updates of ordinary captions at the embedded scenario's settings."""
    with as_file(files("sidestep.bench").joinpath("scenarios", REGION)) as path:
        return Region.load(path)
