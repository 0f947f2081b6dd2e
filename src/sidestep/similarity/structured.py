"""A recipe that compares only pictures with structure in two directions.

A tile of one colour, a shade and a straight edge are found in every picture: that two of them are
alike says nothing, and a network gives even a flat tile a feature. What can be told from its
neighbourhood is a place where the picture changes in every direction: the smaller eigenvalue of
its structure tensor is not small. Source: Shi and Tomasi, Good Features to Track, CVPR 1994.
"""

import numpy as np
from numpy.typing import NDArray

from sidestep.similarity.base import Images, Recipe, Vectors, check_images
from sidestep.similarity.pixels import averages

SIDE = 16  # pixels that a picture is averaged to first: grain of single pixels is no structure
FLOOR = 16.0  # measured in docs/audit.md, Local copies
VALUES = 2**20  # of pictures averaged at once: bounds memory


class Structured:
    """Another recipe, with a zero row for each picture that has no structure to compare.

    Attributes:
        name: the other recipe's and the floor.
        fingerprint: the other recipe's.
    """

    def __init__(self, recipe: Recipe, floor: float = FLOOR) -> None:
        """Compare by a recipe from a structure of `floor` on; ValueError if it is negative."""
        if not floor >= 0:
            raise ValueError(f"floor is {floor}; structure is 0 or more")
        self.recipe, self.floor = recipe, floor
        self.name = f"{recipe.name}-structure-{floor:g}"
        self.fingerprint: str = getattr(recipe, "fingerprint", "")

    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, D) of length 1 or 0."""
        check_images(images)
        seen = structure(images) >= self.floor
        if seen.all():
            return self.recipe.embed(images)
        # The first stands in where none has structure: a recipe alone knows how long a row is.
        rows = self.recipe.embed(images[seen] if seen.any() else images[:1])
        result = np.zeros((len(images), rows.shape[1]), dtype=np.float32)
        result[seen] = rows[: seen.sum()]
        return result


def structure(images: Images) -> NDArray[np.float64]:
    """How much pictures change in the direction in which they change least, (N,).

    The square root of the smaller eigenvalue of the structure tensor, its three channels summed
    and averaged over a picture of 16 x 16 pixels: levels (0..255) per pixel, 0 for one colour, for
    a shade and for straight edges and stripes along the pixels.
    """
    check_images(images)
    down, across = averages(images.shape[1], SIDE), averages(images.shape[2], SIDE)
    result, size = np.empty(len(images)), max(VALUES // images[0].size if len(images) else 1, 1)
    for first in range(0, len(images), size):
        part = images[first : first + size].astype(np.float64)
        small = np.einsum("ih,nhwc,jw->nijc", down, part, across, optimize=True)
        # Differences along the two diagonals are of the same four pixels; turned by 45 degrees
        # they have the same eigenvalues.
        falling = small[:, 1:, 1:] - small[:, :-1, :-1]
        rising = small[:, 1:, :-1] - small[:, :-1, 1:]
        a, b, c = ((u * v).sum(3).mean((1, 2)) / 2 for u, v in (
            (falling, falling), (rising, rising), (falling, rising),
        ))  # fmt: skip
        least = (a + b) / 2 - np.hypot((a - b) / 2, c)
        result[first : first + size] = np.sqrt(np.maximum(least, 0.0))
    return result
