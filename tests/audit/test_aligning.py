"""A part is laid over a picture where it came from and at its size, whatever the pictures' side."""

import numpy as np
import pytest
from PIL import Image

from sidestep.audit.aligning import AROUND, TILE, align, cut
from sidestep.sources.windows import Window


def picture(seed, side=64):
    """Smooth colours: what survives reduction and resizing."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("side", [64, 200, 640])
@pytest.mark.parametrize("window", [Window(0, 0, 1 / 3), Window(0.4, 0.25, 1 / 3)])
def test_a_cut_is_the_window_with_its_surroundings_and_never_large(side, window):
    one = cut(picture(0, side), window, 1.1)
    most = np.ceil(1.1 * TILE * (1 + 2 * AROUND)) + 2  # whole pixels before and after resizing
    assert max(one.pixels.shape) <= most
    width = round(side / 3)
    left, top = (max(round(at * side) - round(width * AROUND), 0) for at in window[:2])
    assert (one.left, one.top) == (left / side, top / side)
    assert one.window((0, 0), 5)[:2] == (one.left, one.top)
    assert one.window((3, 2), 5).left == pytest.approx(one.left + 3 / one.zoom, abs=1e-12)


def test_a_small_cut_is_its_pixels():
    one = picture(0)
    np.testing.assert_array_equal(cut(one, Window(0.25, 0.5, 0.25)).pixels, one[28:52, 12:36])


@pytest.mark.parametrize("side", [64, 512])
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_place_and_size_of_a_part_are_found(side, scale):
    here, there = picture(1, side).copy(), picture(2, side)
    width = side // 2
    size = round(width * scale)
    part = Image.fromarray(there[:width, side - width :])
    left, top = round(0.3 * side), round(0.36 * side)
    here[top : top + size, left : left + size] = part.resize((size, size), Image.Resampling.BICUBIC)
    # The window begins a sixth of its side beside what the tile shows.
    tile = Window(0.6, 0.1, 1 / 3)
    about = (0.3 + 0.1 * scale + 1 / 18, 0.36 + 0.1 * scale - 1 / 18)
    found = align(cut(here, Window(*about, 1 / 3)), there, tile, 8)
    assert found.similarity > 0.97  # resized once more than the part, by bicubic filters
    assert found.here.side / found.there.side == pytest.approx(scale, abs=1e-9)
    for at, start, source, origin in (
        (found.here.left, left / side, found.there.left, 0.5),
        (found.here.top, top / side, found.there.top, 0),
    ):
        # A pixel of the reduced cuts, 24 for a third of the side, and half of one of rounding.
        assert at - start == pytest.approx((source - origin) * scale, abs=1.5 / 72)


def test_a_tile_without_structure_lies_nowhere():
    flat = np.full((64, 64, 3), 9, np.uint8)
    assert align(cut(picture(0), Window(0, 0, 0.5)), flat, Window(0, 0, 0.5), 16) is None
