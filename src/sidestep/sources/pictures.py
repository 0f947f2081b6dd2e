"""Pictures that somebody else made: looked at with care, refused with a reason."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
FORMATS = ("JPEG", "PNG", "WEBP")  # what a file may hold, whatever its name says
# What Pillow converts to RGB without loss of meaning; 16-bit samples would be cut to white.
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
MOST_BYTES = 64 * 2**20
MOST_PIXELS = 50_000_000


class Unreadable(NamedTuple):
    """A reference image that could not be used, and why."""

    file: str  # relative to the folder of references
    reason: str


class Refused(Exception):
    """Why an image is not used."""


def files(folder: Path) -> list[Path]:
    """Every image file below a folder, by its suffix, in the order of relative paths."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def read(path: Path, side: int) -> NDArray[np.uint8]:
    """The picture of a file as `decode` gives it; Refused also where it cannot be opened."""
    return decode(content(path), side)


def content(path: Path) -> bytes:
    """The bytes of a picture's file; Refused if they are too many or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise Refused(f"{path.stat().st_size} bytes, more than {MOST_BYTES}")
            return data
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Refused(f"cannot be opened ({reason})") from error


def decode(data: bytes, side: int) -> NDArray[np.uint8]:
    """A picture as training saw it: its centre square, resized to (side, side, 3) RGB.

    Size and kind are checked before anything is decoded; of several frames the first counts, and
    the picture is turned as its EXIF orientation says. Raises Refused for a picture that is too
    large, of another kind, cut off or damaged.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of pictures up to twice its own limit; ours is lower. It also warns
            # of damaged EXIF, which costs no pixel.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Refused(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS}")
                if image.mode not in MODES:
                    raise Refused(f"samples of kind {image.mode}, not 8 bits each")
                return framed(upright(image).convert("RGB"), side)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused("needs more memory than decoding may use") from error
    except UnidentifiedImageError as error:
        raise Refused(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    # Pillow lets whatever its decoders meet through: OSError, SyntaxError, ValueError, struct's.
    except Exception as error:
        raise Refused(f"cut off or damaged ({error})") from error


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    # Pixels are whole by now. A picture with damaged EXIF was trained on as it lies in the file,
    # and leaving it out would hide it.
    except Exception:
        return image


def framed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The centre square of an RGB image, resized to (side, side, 3), bilinear."""
    short = min(image.size)
    left, top = ((edge - short) / 2 for edge in image.size)
    # Cut before resizing: a strip of 1 x 10^6 pixels would otherwise grow in both directions.
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def read_all(
    folder: Path, side: int, refused: list[Unreadable]
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Every readable image below a folder, one at a time; the others are added to `refused`."""
    for path in files(folder):
        try:
            yield path, read(path, side)
        except Refused as why:
            refused.append(Unreadable(path.relative_to(folder).as_posix(), str(why)))
