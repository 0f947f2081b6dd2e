"""Pictures that a page inlines, read with care from a folder that may come from somebody else."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sidestep.errors import BadRecords

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def inside(folder: Path, name: str) -> Path:
    """The path of a file named by the records; raises BadRecords where it leaves the folder.

    Records may come from somebody else, and a report must not carry off other files.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadRecords(
            f"the records in {folder} name the file {name!r}, which lies outside the run folder; "
            "a report only reads files of its run"
        )
    return path


def opened(folder: Path, name: str) -> Image.Image:
    """A picture of a folder, decoded; raises BadRecords where it is absent or damaged."""
    path = inside(folder, name)
    try:
        image = Image.open(path, formats=list(FORMATS))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRecords(
            f"{path} is named in the records but is not a picture that can be read ({error}); "
            "put the file back, or run again"
        ) from error
    return image


def data_uri(folder: Path, name: str, most: int) -> str:
    """A picture of a folder as a data: URI, at most `most` pixels high and wide.

    One that is small enough goes in as it is, byte by byte.
    """
    with opened(folder, name) as image:
        if max(image.size) <= most:
            return _uri(FORMATS[str(image.format)], inside(folder, name).read_bytes())
        return _jpeg(image.convert("RGB"), most)


def difference(folder: Path, generated: str, training: str, most: int) -> str:
    """Where two pictures differ, as a data: URI: white = equal, black = black against white.

    The training picture is cut to the generated one's form and resized to it.
    """
    with opened(folder, generated) as one, opened(folder, training) as other:
        made = one.convert("RGB")
        fitted = ImageOps.fit(other.convert("RGB"), made.size, Image.Resampling.LANCZOS)
    apart = np.abs(np.asarray(made, dtype=np.int16) - np.asarray(fitted, dtype=np.int16))
    grey = Image.fromarray((255 - apart.mean(axis=2).round()).astype(np.uint8))
    return _jpeg(grey, most)


def _jpeg(image: Image.Image, most: int) -> str:
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=88)
    return _uri("image/jpeg", memory.getvalue())


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
