"""What an index costs beside its recipe, as ratios from one run.

Rounds are interleaved: `python -m benchmarks.indexing`.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from sidestep.audit.build import build_index
from sidestep.audit.recipes import recipe
from sidestep.sources import pictures
from sidestep.sources.collection import open_collection

ROUNDS = 3
# Enough pictures that the start of the decoders is not what is measured.
PICTURES, SIDE, BATCH = 1280, 256, 32


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def photographs(folder: Path) -> None:
    """Smooth noise as JPEG: as costly to decode as photographs of 512 pixels."""
    chance = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:04}.jpg", quality=90)


def indexing() -> Table:
    """Pictures per second of a whole build, against embedding the decoded pictures alone."""
    made = recipe("sscd")
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        photographs(folder)
        decoded = np.stack([pictures.read(p, SIDE) for p in pictures.files(folder)])
        made.embed(decoded[:BATCH])  # warm up

        def embed() -> None:
            for first in range(0, PICTURES, BATCH):
                made.embed(decoded[first : first + BATCH])

        for number in range(ROUNDS):
            bare.append(seconds(embed))
            out = Path(name, str(number))
            collection = open_collection(str(folder))
            whole.append(
                seconds(lambda o=out, c=collection: build_index(c, o, made, side=SIDE))  # type: ignore[misc]
            )
    ratio = median(b / w for b, w in zip(bare, whole, strict=True))
    table = Table("way", "pictures / s", "/ recipe alone", title=f"{PICTURES} JPEG, {made.name}")
    table.add_row("recipe.embed alone", f"{PICTURES / median(bare):.1f}", "1.00")
    table.add_row("sidestep index", f"{PICTURES / median(whole):.1f}", f"{ratio:.2f}")
    return table


def main() -> None:
    """Run and print."""
    Console().print(indexing())


if __name__ == "__main__":
    main()
