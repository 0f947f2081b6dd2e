"""Windows are where they say, and tiles are the windows of every picture of a collection."""

import numpy as np
import pytest
from PIL import Image

from sidestep.sources import pictures
from sidestep.sources.base import Item
from sidestep.sources.decoders import Task, look
from sidestep.sources.tiles import Tiles
from sidestep.sources.windows import Window, windows


def test_three_windows_in_a_row_are_halves_with_half_overlap():
    assert windows(3) == [
        Window(left, top, 0.5) for top in (0, 0.25, 0.5) for left in (0, 0.25, 0.5)
    ]


@pytest.mark.parametrize("grid", [2, 3, 5, 7, 20])
@pytest.mark.parametrize("finer", [1, 2, 3])
def test_windows_cover_the_picture_and_those_of_the_grid_are_among_finer_ones(grid, finer):
    fine = windows(grid, finer)
    assert len(fine) == len(set(fine)) == (finer * (grid - 1) + 1) ** 2
    near = {tuple(np.round(w, 12)) for w in fine}
    assert near >= {tuple(np.round(w, 12)) for w in windows(grid)}
    assert max(w.left + w.side for w in fine) == pytest.approx(1, abs=1e-12)  # float64 sums


@pytest.mark.parametrize("grid", [2, 3, 5, 7, 64])
@pytest.mark.parametrize("side", [8, 64, 255, 512])
def test_cuts_of_one_share_have_one_size_and_lie_where_the_shares_say(grid, side):
    y, x = np.mgrid[0:side, 0:side]
    picture = np.stack([x % 256, y % 256, (x // 256) * 16 + y // 256], axis=2).astype(np.uint8)
    width = max(round(2 * side / (grid + 1)), 1)
    for window in windows(grid):
        cut = window.cut(picture)
        assert cut.shape == (width, width, 3)
        left = int(cut[0, 0, 0]) + 256 * (int(cut[0, 0, 2]) // 16)
        top = int(cut[0, 0, 1]) + 256 * (int(cut[0, 0, 2]) % 16)
        # Half a pixel of rounding each of place and size.
        assert abs(left - window.left * side) <= 1 and abs(top - window.top * side) <= 1


def test_a_path_says_which_window_it_is():
    for window in windows(6):
        path = f"a#b/c.png{window.fragment}"
        np.testing.assert_allclose(Window.of(path), window, rtol=1e-5)  # six digits
    assert Window(0.25, 0, 0.5).fragment == "#xywh=percent:25,0,50,50"
    for path in ("a.png", "a.png#xywh=percent:1,2,50,40", "a.png#xywh=1,2,3,3"):
        with pytest.raises(ValueError, match="names no window"):
            Window.of(path)


@pytest.mark.parametrize(("grid", "finer"), [(1, 1), (65, 1), (3, 0)])
def test_a_grid_out_of_range_is_refused(grid, finer):
    with pytest.raises(ValueError, match="grid must lie in"):
        windows(grid, finer)


def test_tiles_are_cut_from_the_framed_square(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    class Two:
        def count(self):
            return 2

        def items(self):
            yield Item("a.png", tmp_path / "a.png", "a fox")
            yield Item("b.png", "there was none")

    tiles = Tiles(Two(), 3)
    items = list(tiles.items())
    assert tiles.count() == len(items) == len({i.path for i in items}) == 18
    square, number = pictures.read(tmp_path / "a.png", 32), 0
    for top in (0, 8, 16):
        for left in (0, 8, 16):
            item = items[number]
            assert item.caption == "a fox" and Window.of(item.path) == item.window
            seen = look(Task(item.data, "", item.window), 32)
            np.testing.assert_array_equal(seen.pixels, square[top : top + 16, left : left + 16])
            number += 1
    assert {look(Task(i.data, "", i.window), 32).reason for i in items[9:]} == {"there was none"}
