"""From pictures to what a published network was shown: resize, crop, normalise.

The meaning is that of torchvision's transforms on a PIL picture, which the published pipelines use:
resizing is antialiased and rounds to 8 bits, the long edge is cut down to a whole pixel, an odd
border of a centre crop is split by rounding half to even.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.similarity.base import Images, check_images

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Preprocessing(NamedTuple):
    """What happens to a picture before a network sees it."""

    side: int  # pixels after resizing
    fit: Literal["short-edge", "squash"]  # the short edge becomes `side`, or both edges do
    crop: int | None  # side of the centre crop after it; None = no crop
    mean: Triple  # of values in [0, 1], R G B
    std: Triple
    resample: Image.Resampling = Image.Resampling.BILINEAR

    def apply(self, images: Images) -> NDArray[np.float32]:
        """Pictures (N, H, W, 3), uint8 RGB, to (N, 3, height, width), normalised.

        Raises ValueError for anything but such pictures, and for a crop larger than what is left.
        """
        check_images(images)
        size = self.size(images.shape[1], images.shape[2])
        top, left, height, width = self.window(*size)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        rows = np.empty((len(images), 3, height, width), dtype=np.float32)
        for row, image in zip(rows, images, strict=True):
            # PIL counts width first.
            small = Image.fromarray(image).resize(size[::-1], self.resample)
            cut = np.asarray(small)[top : top + height, left : left + width]
            row[:] = ((cut.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
        return rows

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing."""
        if self.fit == "squash":
            return self.side, self.side
        long = self.side * max(height, width) // min(height, width)
        return (self.side, long) if height <= width else (long, self.side)

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of what the crop keeps."""
        if self.crop is None:
            return 0, 0, height, width
        if self.crop > min(height, width):
            raise ValueError(
                f"a crop of {self.crop} pixels does not fit into {height} x {width}; resize to at "
                "least the crop"
            )
        return (
            round((height - self.crop) / 2),
            round((width - self.crop) / 2),
            self.crop,
            self.crop,
        )
