"""Preprocessing against its definition: sizes, windows, antialiasing, normalisation."""

import numpy as np
import pytest
from PIL import Image
from reference import antialiased

from sidestep.similarity.preprocess import HALF, IMAGENET, Preprocessing


def pictures(height, width, n=2):
    r = np.random.default_rng(0)
    return r.integers(0, 256, (n, height, width, 3)).astype(np.uint8)


def squash(side, **more):
    return Preprocessing(side, "squash", None, (0, 0, 0), (1, 1, 1), **more)


@pytest.mark.parametrize(("height", "width"), [(48, 80), (17, 31), (20, 20)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_resizing_is_the_antialiased_kernel(height, width, name):
    images = pictures(height, width)
    found = squash(24, resample=Image.Resampling[name.upper()]).apply(images) * 255
    expected = [antialiased.resize(image, 24, 24, name).transpose(2, 0, 1) for image in images]
    # PIL's weights are fixed-point numbers, so a value at a half may round the other way, and
    # halves are common where the sizes divide each other. Another kernel is off by tens of levels.
    off = np.abs(found - np.stack(expected))
    assert off.max() <= 1 + 1e-4
    assert off.mean() < 0.05


def test_it_does_not_just_pick_pixels():
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    # Without antialiasing a reduction by eight shows only one kind of stripe.
    found = squash(8).apply(stripes)
    # The kernel is symmetric about an edge between stripes, except where the border cuts it.
    assert found[..., 1:-1] == pytest.approx(0.5, abs=0.01)  # two roundings to 8 bits


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(100, 201, (256, 514)), (201, 100, (514, 256)), (512, 512, (256, 256)), (3, 7, (256, 597))],
)
def test_the_short_edge_is_met_and_the_long_one_cut_to_a_whole_pixel(height, width, size):
    assert Preprocessing(256, "short-edge", None, *HALF).size(height, width) == size


@pytest.mark.parametrize(
    ("height", "width", "corner"),
    # 514 - 224 = 290; 227 leaves 3 and 1.5 rounds to 2; 229 leaves 5 and 2.5 rounds to 2.
    [(256, 514, (16, 145)), (227, 229, (2, 2)), (224, 224, (0, 0))],
)
def test_the_crop_is_central(height, width, corner):
    how = Preprocessing(256, "short-edge", 224, *HALF)
    assert how.window(height, width) == (*corner, 224, 224)


def test_the_crop_shows_what_the_window_says():
    images = pictures(40, 90)
    whole = Preprocessing(32, "short-edge", None, *HALF).apply(images)
    cut = Preprocessing(32, "short-edge", 20, *HALF).apply(images)
    assert whole.shape == (2, 3, 32, 72)
    assert (cut == whole[:, :, 6:26, 26:46]).all()


def test_normalisation_is_per_channel():
    flat = np.full((1, 8, 8, 3), (0, 128, 255), np.uint8)
    found = Preprocessing(8, "squash", None, *IMAGENET).apply(flat)[0, :, 0, 0]
    expected = [(v / 255 - m) / s for v, m, s in zip((0, 128, 255), *IMAGENET, strict=True)]
    assert found == pytest.approx(expected, abs=1e-6)  # float32
    half = Preprocessing(8, "squash", None, *HALF).apply(flat)
    assert half.min() == -1
    assert half.max() == 1


def test_what_cannot_be_cropped_is_refused():
    with pytest.raises(ValueError, match="does not fit into 16 x 16"):
        Preprocessing(16, "squash", 20, *HALF).apply(pictures(8, 8))
    with pytest.raises(ValueError, match="type uint8"):
        squash(8).apply(pictures(8, 8).astype(np.float32))
