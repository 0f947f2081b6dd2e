"""Pictures reduced to a few numbers: enough to see two of them match, too few to see what is shown.

A Gaussian blur can be inverted; what was averaged away and rounded off cannot. Somebody who holds
the very picture can still find out that it matches, here as under any blur that shows anything.
"""

import io

from PIL import Image

SIDE = 6  # pixels of the longer side
LEVELS = 16  # of each colour
NUMBERS = 3 * SIDE * SIDE  # at most, of 4 bits each


def blurred(image: Image.Image) -> Image.Image:
    """The mean colours of at most SIDE x SIDE blocks, each colour rounded to LEVELS values."""
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return small.point(lambda value: value // (256 // LEVELS) * 255 // (LEVELS - 1))


def png(image: Image.Image) -> bytes:
    """As the bytes of a PNG file, without anything beside the pixels."""
    memory = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(memory, "PNG")
    return memory.getvalue()
