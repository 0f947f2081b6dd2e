"""Windows: square parts of a square picture, given in shares of its side."""

import re
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

MOST = 64  # windows in a row: more are no parts of a picture any more
FRAGMENT = re.compile(r"#xywh=percent:([\d.]+),([\d.]+),([\d.]+),\3$")


class Window(NamedTuple):
    """A square part of a picture, in shares of the picture's side."""

    left: float
    top: float
    side: float

    @property
    def fragment(self) -> str:
        """The window as the end of a path, in percent (W3C Media Fragments 1.0)."""
        left, top, side = (f"{100 * share:.6g}" for share in self)
        return f"#xywh=percent:{left},{top},{side},{side}"

    @classmethod
    def of(cls, path: str) -> Self:
        """The window that ends a path, to six digits; ValueError if none does."""
        found = FRAGMENT.search(path)
        if found is None:
            raise ValueError(f"{path} names no window of a picture")
        left, top, side = (float(share) / 100 for share in found.groups())
        return cls(left, top, side)

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels (w, w, 3) of a square picture (side, side, 3), at least one."""
        length = len(picture)
        # All windows of one share have one size in pixels, so that they can be stacked.
        width = max(round(self.side * length), 1)
        left, top = (min(round(share * length), length - width) for share in self[:2])
        return picture[top : top + width, left : left + width]


def windows(grid: int, finer: int = 1) -> list[Window]:
    """Windows of 2 / (grid + 1) of the side, row by row; neighbours overlap by half.

    Args:
        grid: windows in a row, 2..64: 3 = 3 x 3 windows of half the side.
        finer: windows of the same size at steps smaller by this, (finer (grid - 1) + 1)^2 of
            them, those of the grid among them.

    Raises:
        ValueError: one of them is out of range.
    """
    if not 2 <= grid <= MOST or finer < 1:
        raise ValueError(
            f"grid is {grid} and finer {finer}; grid must lie in 2..{MOST}, finer be at least 1"
        )
    steps = range(finer * (grid - 1) + 1)
    at = [step / (finer * (grid + 1)) for step in steps]
    return [Window(left, top, 2 / (grid + 1)) for top in at for left in at]
