"""What a similarity is: a recipe turns pictures into unit vectors, their dot product compares them.

A recipe's name says the model and every choice of preprocessing that moves its numbers, because
similarities of different recipes cannot be compared.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class Recipe(Protocol):
    """A way to compare pictures. Similarity is the dot product of two rows; higher = closer.

    One that rests on weights also has a `fingerprint`, their SHA-256, which an index keeps.
    """

    @property
    def name(self) -> str:
        """Model and preprocessing, such as `sscd-disc-mixup-224`."""
        ...

    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, D) of length 1.

        A row may be zero where the recipe sees nothing to compare: it is similar to nothing.
        """
        ...


def check_images(images: Images) -> None:
    """Refuse anything but uint8 pictures (N, H, W, 3) with a sentence (ValueError)."""
    shape, kind = getattr(images, "shape", None), getattr(images, "dtype", type(images).__name__)
    if shape is None or len(shape) != 4 or shape[3] != 3 or kind != np.uint8 or 0 in shape[1:]:
        raise ValueError(
            f"pictures came with shape {shape} and type {kind}; they must be (N, H, W, 3) RGB of "
            "type uint8 in 0..255. Stack single pictures and multiply values in 0..1 by 255 first."
        )


def resize(images: Images, side: int) -> Images:
    """Pictures (N, H, W, 3) squeezed or enlarged to (N, side, side, 3), bicubic, antialiased."""
    if images.shape[1:3] == (side, side):
        return images
    result = np.empty((len(images), side, side, 3), dtype=np.uint8)
    for row, image in zip(result, images, strict=True):
        row[:] = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    return result
