"""Pictures as a decoder gives them, as pixels, and the sides that they can have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import Overflow


def pixels(images: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Pictures in [0, 1] as uint8, of the same shape.

    Raises Overflow for numbers that are not finite: they would be black pixels, and a black picture
    passes for one that is no copy.
    """
    if not np.isfinite(images).all():
        raise Overflow(
            "the model gave a picture of numbers that are not finite (NaN or overflow), which "
            "would come out black; load it in float32 or bfloat16, and if it is, its weights are "
            "damaged: fetch it again"
        )
    return (images * 255).round().astype(np.uint8)


def whole(resolution: int, factor: int) -> int:
    """The resolution, a multiple of what a latent's side is enlarged by; ValueError otherwise."""
    if resolution < factor or resolution % factor:
        raise ValueError(
            f"resolution is {resolution}; this model's pictures have a multiple of {factor} pixels "
            "on each side"
        )
    return resolution
