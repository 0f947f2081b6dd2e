"""Pixel correlation: area averages, what it ignores, and pictures with nothing in them."""

import numpy as np
import pytest

from sidestep.similarity.base import check_images
from sidestep.similarity.pixels import Pixels, averages


def pictures(n=3, height=64, width=64):
    r = np.random.default_rng(0)
    return r.integers(60, 160, (n, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("length", "side"), [(64, 32), (50, 32), (7, 3), (5, 12), (8, 8)])
def test_averages_are_the_integral_of_the_pixels(length, side):
    weights = averages(length, side)
    # Reference: each stretch as the mean of fine samples; their grid divides both lengths.
    fine = np.repeat(np.eye(length), side, axis=0)
    expected = fine.reshape(side, length, length).mean(1)
    assert weights == pytest.approx(expected, abs=1e-12)  # float64 rounding


def test_height_and_width_are_not_confused():
    images = pictures(1, 48, 80)
    turned = images.transpose(0, 2, 1, 3)
    rows = Pixels(8).embed(images).reshape(8, 8, 3)
    assert rows == pytest.approx(Pixels(8).embed(turned).reshape(8, 8, 3).transpose(1, 0, 2))


def test_rows_have_length_one_and_a_name_says_the_side():
    rows = Pixels(16).embed(pictures())
    assert rows.shape == (3, 16 * 16 * 3)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)  # float32
    assert Pixels(16).name == "pixels-16"


def test_brightness_and_a_colour_cast_do_not_count_and_a_negative_is_minus_one():
    image = pictures(1)
    cast = image + np.array([30, 0, 60], dtype=np.uint8)
    a, b, c = (Pixels().embed(x)[0] for x in (image, cast, 255 - image))
    assert a @ b == pytest.approx(1, abs=1e-6)  # float32 rows
    assert a @ c == pytest.approx(-1, abs=1e-6)


def test_one_colour_is_similar_to_nothing_and_one_level_in_one_pixel_is_something():
    flat = np.full((1, 64, 64, 3), (7, 101, 255), dtype=np.uint8)
    dotted = flat.copy()
    dotted[0, 5, 5, 0] += 1
    assert not Pixels().embed(flat).any()
    assert np.linalg.norm(Pixels().embed(dotted)) == pytest.approx(1, abs=1e-6)


def test_a_row_depends_on_its_own_picture_alone():
    images = pictures()
    together = Pixels().embed(images)
    for i in range(3):
        assert (Pixels().embed(images[i : i + 1])[0] == together[i]).all()
    assert Pixels().embed(images[:0]).shape == (0, 32 * 32 * 3)


def test_a_side_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Pixels(1)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 64, 64, 3), dtype=np.float32),
        np.zeros((64, 64, 3), dtype=np.uint8),
        np.zeros((2, 3, 64, 64), dtype=np.uint8),
        np.zeros((2, 0, 64, 3), dtype=np.uint8),
        [1, 2],
    ],
)
def test_what_is_no_stack_of_pictures_is_refused(images):
    with pytest.raises(ValueError, match="RGB of type uint8"):
        check_images(images)
