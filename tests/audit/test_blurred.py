"""Blurred pictures: so few numbers, of so few levels, that detail cannot be in them."""

import numpy as np
from PIL import Image

from sidestep.audit.blurred import LEVELS, NUMBERS, SIDE, blurred


def test_blurred_pictures_carry_no_more_numbers_than_stated():
    assert NUMBERS == 108
    r = np.random.default_rng(0)
    for width, height in ((512, 512), (512, 96), (7, 900), (1, 1), (3, 5)):
        image = Image.fromarray(r.integers(0, 256, (height, width, 3), dtype=np.uint8))
        small = np.asarray(blurred(image))
        assert small.size <= NUMBERS
        assert max(small.shape[:2]) == SIDE
        assert len(np.unique(small)) <= LEVELS


def test_a_blurred_picture_is_the_mean_colour_of_its_blocks():
    pixels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    mean = pixels.reshape(6, 10, 6, 10, 3).mean(axis=(1, 3))
    small = np.asarray(blurred(Image.fromarray(pixels)), dtype=int)
    # Rounded down to one of 16 levels, each 16 values wide and shown as a multiple of 17. Pillow
    # rounds the means of rows and then those of columns, by half a value each.
    assert (small % 17 == 0).all()
    assert (np.abs(mean - (small // 17 * 16 + 8)) <= 8 + 1).all()
    assert len(np.unique(small)) > 2


def test_two_pictures_that_only_differ_in_detail_blur_alike():
    flat = np.full((120, 120, 3), 120, dtype=np.uint8)
    fine = flat.copy()
    fine[::2], fine[1::2] = 90, 150
    assert blurred(Image.fromarray(flat)).tobytes() == blurred(Image.fromarray(fine)).tobytes()
