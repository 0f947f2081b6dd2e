"""Reference images that others made: what is used, what is refused and how it is seen."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sidestep.sources import pictures


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_centre_square_is_what_training_saw(tmp_path):
    pixels = noise(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png", 20), pixels[:, 5:25])
    Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / "b.webp", lossless=True)
    seen = pictures.read(tmp_path / "b.webp", 20)
    np.testing.assert_array_equal(seen, pixels.swapaxes(0, 1)[5:25])


def test_half_the_size_is_the_local_mean_up_to_the_filter(tmp_path):
    # A ramp is its own mean under any symmetric filter; a level for rounding twice.
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    seen = pictures.read(tmp_path / "a.png", 32).astype(int)
    means = ramp.reshape(32, 2, 32, 2, 3).astype(float).mean((1, 3))
    assert np.abs(seen - means)[:, 1:-1].max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colour_modes_of_eight_bits_are_read(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    image = Image.fromarray(noise(16, 16)).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    seen = pictures.read(tmp_path / f"a.{suffix}", 16)
    assert seen.shape == (16, 16, 3) and seen.std() > 10


def bomb(path, width, height):
    """A small file that says it is an image of that many pixels, one bit each."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def cases(folder):
    """Files that cannot be used and what is said of each."""
    whole = folder / "whole.jpg"
    Image.fromarray(noise(64, 64)).save(whole)
    Image.fromarray(noise(64, 64)).save(folder / "whole.png")
    raw = {"whole.jpg": whole.read_bytes(), "whole.png": (folder / "whole.png").read_bytes()}
    for name, data in raw.items():
        (folder / f"cut-{name}").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>404</html>")
    Image.fromarray(noise(8, 8)).save(folder / "other.png", format="TIFF")
    Image.fromarray(noise(8, 8)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    bomb(folder / "bomb.png", 60_000, 60_000)
    bomb(folder / "large.png", 8_000, 7_000)
    with (folder / "heavy.png").open("wb") as file:
        file.truncate(pictures.MOST_BYTES + 1)
    return {
        "bomb.png": "cut off or damaged",  # beyond Pillow's own limit
        "large.png": "8000 x 7000 pixels, more than 50000000",
        "cut-whole.jpg": "cut off or damaged",
        "cut-whole.png": "cut off or damaged",
        "deep.png": "samples of kind I;16, not 8 bits each",
        "empty.jpg": "no JPEG, PNG or WEBP image",
        "heavy.png": "67108865 bytes, more than 67108864",
        "other.png": "no JPEG, PNG or WEBP image",
        "page.jpg": "no JPEG, PNG or WEBP image",
    }


def test_what_cannot_be_read_is_recorded_with_its_reason_and_never_replaced(tmp_path):
    expected = cases(tmp_path)
    refused = []
    read = dict(pictures.read_all(tmp_path, 16, refused))
    assert {p.name for p in read} == {"whole.jpg", "whole.png"}
    assert {one.file for one in refused} == set(expected)
    for one in refused:
        assert one.reason.startswith(expected[one.file]), one


def test_no_pixel_of_an_oversized_image_is_decoded(tmp_path, monkeypatch):
    bomb(tmp_path / "large.png", 8_000, 7_000)
    monkeypatch.setattr(Image.Image, "convert", lambda *a: pytest.fail("decoded"))
    with pytest.raises(pictures.Refused, match="pixels"):
        pictures.read(tmp_path / "large.png", 16)


def test_a_strip_stays_small(tmp_path):
    Image.fromarray(noise(1, 4000)).save(tmp_path / "strip.png")
    assert pictures.read(tmp_path / "strip.png", 64).shape == (64, 64, 3)


def test_files_are_found_by_suffix_in_the_order_of_their_names(tmp_path):
    for name in ["b/2.JPEG", "b/10.jpg", "a.webp", "c.txt", "c.png.part", "d.gif"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    names = [p.relative_to(tmp_path).as_posix() for p in pictures.files(tmp_path)]
    assert names == ["a.webp", "b/10.jpg", "b/2.JPEG"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation):
    # What each value of the EXIF tag asks for, as turns of the stored rows (EXIF 2.32, 4.6.4 A).
    turned = {
        1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1), 8: lambda p: np.rot90(p),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(24, 24)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png", 24), turned(pixels))


def test_damaged_exif_costs_no_picture(tmp_path):
    pixels = noise(24, 24)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png", 24), pixels)


def test_of_several_frames_the_first_counts(tmp_path):
    first, second = (Image.fromarray(noise(24, 24, seed)) for seed in (0, 1))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    for path in (tmp_path / "a.webp", tmp_path / "a.png"):
        np.testing.assert_array_equal(pictures.read(path, 24), np.asarray(first))


def test_a_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path):
    with pytest.raises(pictures.Refused, match=r"cannot be opened \(no such file"):
        pictures.read(tmp_path / "a.png", 24)
