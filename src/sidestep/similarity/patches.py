"""Where two pictures agree pixel by pixel: patches of one, slid over all of the other.

The similarity of two patches is Lin's concordance correlation of their values, 1 - sum (a - b)^2 /
(their sums of squares about the means + n (mean a - mean b)^2), channels summed. It is the
normalised cross-correlation, made smaller by another contrast or another colour: a copy keeps both,
and what is alike by chance does not. Source: Lin, A Concordance Correlation Coefficient to
Evaluate Reproducibility, Biometrics 1989.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sidestep.similarity.base import Images
from sidestep.similarity.structured import structure

STEP = 2  # pixels between patches; where they lie in the other picture is exact to one
PAIRS = 2**22  # patches by places compared at once: bounds memory


class Agreement(NamedTuple):
    """The most similar patches of two pictures, by the pixels of their upper left corners."""

    similarity: float  # in -1..1
    here: tuple[int, int]  # left, top
    there: tuple[int, int]


def agreement(here: Images, there: Images, width: int, floor: float) -> Agreement | None:
    """The patch of `there` that some place of `here` is most similar to.

    Args:
        here: (h, w, 3), uint8 RGB.
        there: (h', w', 3); every second patch of it down and across is slid over `here`.
        width: of a patch in pixels, at least 2.
        floor: patches of `there` with a `structured.structure` below it agree with nothing.

    Returns:
        None where a picture is smaller than a patch or no patch has structure. Of equal pairs the
        first patch counts, row by row, and of it the first place.

    Raises:
        ValueError: width is below 2.
    """
    if width < 2:
        raise ValueError(f"width is {width}; a patch has at least 2 x 2 pixels")
    if min(*here.shape[:2], *there.shape[:2]) < width:
        return None
    every = sliding_window_view(there, (width, width), axis=(0, 1))[::STEP, ::STEP]
    across = every.shape[1]
    patches = np.ascontiguousarray(every.reshape(-1, *every.shape[2:]).transpose(0, 2, 3, 1))
    rich = np.flatnonzero(structure(patches) >= floor)
    if not len(rich):
        return None
    places = _Places(here, width)
    size = max(PAIRS // places.count, 1)
    tops = [places.top(patches[rich[i : i + size]]) for i in range(0, len(rich), size)]
    scores, at = (np.concatenate(part) for part in zip(*tops, strict=True))
    first = int(scores.argmax())
    top, left = divmod(int(at[first]), places.across)
    row, column = divmod(int(rich[first]), across)
    similarity = concordance(here[top : top + width, left : left + width], patches[rich[first]])
    return Agreement(similarity, (left, top), (column * STEP, row * STEP))


class _Places:
    """Every place of a patch in a picture."""

    def __init__(self, picture: Images, width: int) -> None:
        values = _centred(picture[None])
        self.picture, self.width = values, width
        self.mean = F.avg_pool2d(values, width, 1)[0]  # (3, places down, places across)
        square = F.avg_pool2d(values**2, width, 1)[0]
        self.spread = (square - self.mean**2).clamp(min=0).sum(0)
        self.across, self.count = self.mean.shape[2], self.mean[0].numel()

    def top(self, patches: Images) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The concordance (n,) of each of n patches with its best place, and that place's number.

        To about 1e-5: float32 is to find the place, `concordance` to say the number.
        """
        values = _centred(patches)
        mean = values.mean((2, 3))
        centred = values - mean[:, :, None, None]
        spread = (centred**2).sum(1).mean((1, 2))[:, None, None]
        together = F.conv2d(self.picture, centred)[0] / self.width**2
        apart = (self.mean[None] - mean[:, :, None, None]).square().sum(1)
        # A flat place beside a flat patch would be 0 by 0.
        scores = 2 * together / (spread + self.spread + apart).clamp(min=1e-6)
        best, at = scores.flatten(1).max(1)
        return best.numpy(), at.numpy()


def concordance(a: Images, b: Images) -> float:
    """Lin's concordance correlation of two pictures (H, W, 3) in -1..1; 0 if both are flat."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = x.mean((0, 1)), y.mean((0, 1))
    below = ((x - mean_x) ** 2 + (y - mean_y) ** 2 + (mean_x - mean_y) ** 2).sum()
    together = 2 * ((x - mean_x) * (y - mean_y)).sum()
    return float(together / below) if together else 0.0


def _centred(images: Images) -> torch.Tensor:
    """(N, 3, H, W), around 0, where float32 is finest."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) - 127.5
