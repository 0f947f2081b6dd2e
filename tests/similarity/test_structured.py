"""Structure is zero where a picture changes in one direction at most; then the row is zero."""

import numpy as np
import pytest

from sidestep.similarity.pixels import Pixels
from sidestep.similarity.structured import FLOOR, Structured, structure


def picture(value):
    return np.repeat(np.asarray(value)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


Y, X = np.mgrid[0:32, 0:32]
PLAIN = {
    "one colour": np.full((32, 32), 90),
    "a shade": 8 * X,
    "a shade along the diagonal": 4 * X + 4 * Y,
    "an edge": 255 * (X > 11),
    "stripes": 255 * (Y // 4 % 2),
    "grain": 90 + np.random.default_rng(0).integers(-4, 5, (32, 32)),
}
RICH = {
    "a corner": 255 * ((X > 11) & (Y > 11)),
    "a disc": 255 * (np.hypot(X - 15.5, Y - 15.5) < 9),
    "blocks": 255 * ((X // 8 + Y // 8) % 2),
}


@pytest.mark.parametrize("name", PLAIN)
def test_without_a_second_direction_there_is_no_structure(name):
    value = structure(picture(PLAIN[name])[None])[0]
    # Rounding of float64 under a square root; grain of 4 levels is averaged over 2 x 2 pixels.
    assert value <= (FLOOR / 2 if name == "grain" else 1e-5)


@pytest.mark.parametrize("name", RICH)
def test_with_two_directions_there_is(name):
    assert structure(picture(RICH[name])[None])[0] > FLOOR


def slow(image):
    """The definition: gradients of the averaged picture, their tensor, its smaller eigenvalue."""
    length = len(image) // 16
    small = image.astype(float).reshape(16, length, 16, length, 3).mean((1, 3))
    tensor = np.zeros((2, 2))
    for row in range(15):
        for column in range(15):
            for channel in range(3):
                (a, b), (c, d) = small[row : row + 2, column : column + 2, channel]
                gradient = np.array([(b - a + d - c) / 2, (c - a + d - b) / 2])
                tensor += np.outer(gradient, gradient) / 225
    return np.sqrt(np.linalg.eigvalsh(tensor)[0])


@pytest.mark.parametrize("side", [16, 48])
def test_it_is_the_smaller_eigenvalue_of_the_structure_tensor(side):
    images = np.random.default_rng(1).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    np.testing.assert_allclose(structure(images), [slow(i) for i in images], rtol=1e-9)


def test_pictures_without_structure_have_zero_rows_and_the_others_the_recipes():
    images = np.stack(
        [
            picture(v)
            for pair in zip(list(PLAIN.values())[:3], RICH.values(), strict=True)
            for v in pair
        ]
    )
    rows = Structured(Pixels(8)).embed(images)
    np.testing.assert_array_equal(rows[1::2], Pixels(8).embed(images[1::2]))
    assert not rows[::2].any()
    flat = Structured(Pixels(8)).embed(images[::2])
    assert flat.shape == (3, 192) and not flat.any()
    assert Structured(Pixels(8)).embed(images[:0]).shape == (0, 192)


def test_its_name_says_the_floor():
    assert Structured(Pixels(8), 3.5).name == "pixels-8-structure-3.5"
    assert Structured(Pixels(8)).fingerprint == ""
    with pytest.raises(ValueError, match="floor is -1"):
        Structured(Pixels(8), -1)
