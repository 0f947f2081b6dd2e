"""Similarity of pixels: the correlation of two pictures, after each channel's mean is removed."""

import numpy as np
from numpy.typing import NDArray

from sidestep.similarity.base import Images, Vectors, check_images

# Averaged pixels that all lie this close to their mean (of 0..255) are one colour: rounding leaves
# 1e-12, while one pixel off by one level in a picture of 64 x 64 leaves 0.25 at side 32.
FLAT = 1e-4


class Pixels:
    """Pixel correlation as a recipe: pictures are area-averaged to side x side first.

    The dot product of two rows is the Pearson correlation of their pixels over all channels, each
    channel's own mean removed: brightness, contrast and a colour cast of the whole picture do not
    count. In -1..1; 1 = equal up to these. A picture of one colour has nothing left: its row is
    zero, and its similarity to every picture, itself included, is 0.
    """

    def __init__(self, side: int = 32) -> None:
        """Average to side x side pixels; ValueError unless side is at least 2."""
        if side < 2:
            raise ValueError(f"side is {side}; pixel similarity needs at least 2 x 2 pixels.")
        self.side = side
        self.name = f"pixels-{side}"

    def embed(self, images: Images) -> Vectors:
        """Pictures (N, H, W, 3), uint8 RGB, to float32 rows (N, 3 side^2) of length 1 or 0."""
        check_images(images)
        down = averages(images.shape[1], self.side)
        across = averages(images.shape[2], self.side)
        result = np.empty((len(images), 3 * self.side**2), dtype=np.float32)
        for row, image in zip(result, images, strict=True):
            small = np.tensordot(down, image.astype(np.float64), 1)  # (side, W, 3)
            small = across @ small  # (side, side, 3)
            small -= small.mean(axis=(0, 1))
            row[:] = small.ravel() / np.linalg.norm(small) if np.abs(small).max() > FLAT else 0
        return result


def averages(length: int, side: int) -> NDArray[np.float64]:
    """Weights (side, length) that average `length` pixels over `side` equal stretches.

    Entry (i, j) is the share of stretch i that pixel j covers; rows sum to 1. Exact for any two
    lengths, enlarging included.
    """
    edges = np.arange(side + 1) * (length / side)
    pixels = np.arange(length + 1)
    low = np.maximum(edges[:-1, None], pixels[None, :-1])
    high = np.minimum(edges[1:, None], pixels[None, 1:])
    shares: NDArray[np.float64] = np.clip(high - low, 0, None) * (side / length)
    return shares


def distance(a: Images, b: Images) -> NDArray[np.float64]:
    """How far pictures lie apart pixel by pixel, (N,) in [0, 1]: root mean square over channels.

    0 = equal, 1 = black against white. Raises ValueError unless both are uint8 (N, H, W, 3).
    """
    check_images(a)
    check_images(b)
    if a.shape != b.shape:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared by pixel")
    apart = (a.astype(np.float64) - b.astype(np.float64)) / 255
    result: NDArray[np.float64] = np.sqrt((apart**2).mean(axis=(1, 2, 3)))
    return result
