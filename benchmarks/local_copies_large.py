"""Planted local copies in pictures of 256 pixels, quarters of the side among them.

The pictures are 4 x 4 of the embedded model's side by side:
`python -m benchmarks.local_copies_large`.
Some minutes.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.local_copies import RATE, Trained, decided, never, planted, row, tiles_alone
from rich.console import Console

from sidestep.audit.build import build_index
from sidestep.audit.index import open_index
from sidestep.audit.local import Tiled
from sidestep.models.embedded import pictures
from sidestep.similarity.base import Images
from sidestep.similarity.calibration import calibrate
from sidestep.similarity.sscd import SSCD
from sidestep.similarity.structured import Structured
from sidestep.sources.tiles import Tiles

TRAINING, CONTROLS, PLANTED, GRID, FINER = 80, 100, 20, 11, 1
KINDS = {
    "1/2": (128, False, (1.0, 1.0), False),
    "3/8": (96, False, (1.0, 1.0), False),
    "1/4": (64, False, (1.0, 1.0), False),
    "1/4, resized by 0.9 to 1.1": (64, False, (0.9, 1.1), False),
}


def collages(of: Images, count: int, seed: int) -> Images:
    """Pictures (count, 256, 256, 3) of 16 different ones (64, 64, 3) each."""
    chance = np.random.default_rng(seed)
    chosen = np.stack([chance.choice(len(of), 16, replace=False) for _ in range(count)])
    rows = of[chosen].reshape(count, 4, 4, 64, 64, 3)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(count, 256, 256, 3)


class Collages(Trained):
    """Collages of ordinary training pictures."""

    def __init__(self) -> None:
        every = np.stack([p.pixels for p in pictures.background_pictures()])
        self.found = [
            pictures.Picture(f"collage/{n}", "background", "", "", pixels)
            for n, pixels in enumerate(collages(every, TRAINING, 0))
        ]
        self.scenes = TRAINING // 2  # none of them is one


def main() -> None:
    """Print a line with tiles alone and one where pixels decide."""
    trained, console = Collages(), Console(width=200)
    ours, others = never(0, 555), never(1, 555)
    controls, ordinary = collages(ours, CONTROLS, 1), collages(others, CONTROLS, 2)
    grounds = collages(others, PLANTED, 3)
    plants = {name: planted(kind, trained, grounds) for name, kind in KINDS.items()}
    console.print(" | ".join(["search", "threshold", "false alarms", *plants, "ms"]))
    recipe = Structured(SSCD(side=96))
    with tempfile.TemporaryDirectory() as folder:
        build_index(Tiles(trained, GRID), Path(folder), recipe, side=256)
        tiled = Tiled(open_index(folder), trained, recipe, FINER)
        for name, search in {"alone": tiles_alone(tiled), "pixels decide": decided(tiled)}.items():
            begun = time.perf_counter()
            similarities = [s for s, _ in search(controls)]
            taken = 1000 * (time.perf_counter() - begun) / len(controls)
            threshold = calibrate(name, similarities, RATE).threshold
            console.print(
                " | ".join([*row(name, threshold, search, ordinary, plants), f"{taken:.0f}"])
            )


if __name__ == "__main__":
    main()
