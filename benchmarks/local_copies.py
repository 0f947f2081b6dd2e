"""Planted local copies: how many are found whole, by tiles alone, and where pixels decide.

Parts of training pictures of the embedded model are pasted into pictures of drawings that it never
saw: `python -m benchmarks.local_copies`. A quarter of an hour.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from sidestep.adapters.stable_diffusion import load
from sidestep.audit.build import build_index
from sidestep.audit.index import open_index
from sidestep.audit.local import Tiled, nearest_parts
from sidestep.audit.proposals import proposals
from sidestep.models import embedded
from sidestep.models.embedded import drawings, pictures
from sidestep.similarity.base import Images, Recipe
from sidestep.similarity.calibration import calibrate
from sidestep.similarity.pixels import Pixels
from sidestep.similarity.search import nearest
from sidestep.similarity.sscd import SSCD
from sidestep.similarity.structured import Structured
from sidestep.sources.base import Item
from sidestep.sources.tiles import Tiles

SIDE = drawings.SIDE
TRAINING, CONTROLS, NEVER, PLANTED = 400, 100, 100, 30  # pictures; PLANTED of each kind
RATE = 0.01
SEEN = 25  # a part whose strongest channel varies less (standard deviation, levels) is no logo
# Pixels of the part in the training picture; whether both places are multiples of its half; its
# share after resizing; whether its corners are faded out as around a face.
KINDS = {
    "1/2, on the grid of 3": (32, True, (1.0, 1.0), False),
    "1/2": (32, False, (1.0, 1.0), False),
    "1/2, resized by 0.9 to 1.1": (32, False, (0.9, 1.1), False),
    "1/2, resized by 0.75 to 1.33": (32, False, (0.75, 1.33), False),
    "1/2, round": (32, False, (1.0, 1.0), True),
    "3/8": (24, False, (1.0, 1.0), False),
    "3/8, resized by 0.9 to 1.1": (24, False, (0.9, 1.1), False),
    "1/4": (16, False, (1.0, 1.0), False),
}
THROUGH = ("1/2", "3/8")  # kinds that the embedded model's autoencoder has gone over too


class Trained:
    """The scenes and some of the ordinary training pictures, as files in memory."""

    def __init__(self) -> None:
        every = pictures.training_pictures()
        scenes = len(pictures.targets())
        others = np.random.default_rng(0).permutation(np.arange(scenes, len(every)))
        chosen = [*range(scenes), *sorted(others[: TRAINING - scenes].tolist())]
        self.found = [every[n] for n in chosen]
        self.scenes = scenes

    def count(self) -> int:
        """How many they are."""
        return len(self.found)

    def items(self) -> Iterator[Item]:
        """As PNG files."""
        for picture in self.found:
            file = io.BytesIO()
            Image.fromarray(picture.pixels).save(file, "PNG")
            yield Item(picture.id, file.getvalue(), picture.caption)


def never(purpose: int, count: int) -> Images:
    """Pictures of captions that were not trained on; no caption serves two purposes."""
    held = sorted(set(drawings.by_caption()) - set(pictures.concepts()))
    np.random.default_rng(1).shuffle(held)
    own = held[purpose::2][:count]
    chosen = [drawings.by_caption()[caption][0] for caption in own]
    return np.stack([pictures.compose(d, f"never/{d.number}") for d in chosen])


Kind = tuple[int, bool, tuple[float, float], bool]


def planted(kind: Kind, trained: Trained, grounds: Images) -> tuple[Images, list[str]]:
    """Pictures with a part of a training picture in each, and whose part it is."""
    width, grid, (least, most), fade = kind
    side, count = grounds.shape[1], trained.count()
    chance, images, of = np.random.default_rng(3), grounds.copy(), []

    def place(length: int) -> tuple[int, int]:
        step = length // 2 if grid else 1
        left, top = chance.integers(0, (side - length) // step + 1, 2) * step
        return int(left), int(top)

    for image in images:
        part = np.zeros((1, 1, 3))
        while part.std(axis=(0, 1)).max() < SEEN:
            # Half of them are parts of scenes, which the model memorized.
            scene = chance.random() < 0.5
            low, high = (0, trained.scenes) if scene else (trained.scenes, count)
            source = trained.found[int(chance.integers(low, high))]
            left, top = place(width)
            part = source.pixels[top : top + width, left : left + width]
        size = round(width * float(np.exp(chance.uniform(np.log(least), np.log(most)))))
        pasted = np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BICUBIC))
        y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
        weight = np.clip(6 * (1 - np.hypot(x, y)), 0, 1) if fade else np.ones((size, size))
        left, top = place(size)
        under = image[top : top + size, left : left + size]
        under[:] = np.rint(pasted * weight[..., None] + under * (1 - weight[..., None]))
        of.append(source.id)
    return images, of


Best = tuple[float, str]  # similarity and training picture


def row(
    name: str,
    threshold: float,
    search: Callable[[Images], list[Best]],
    ordinary: Images,
    plants: dict[str, tuple[Images, list[str]]],
) -> list[str]:
    """Shares above the threshold and of the right picture, and those of never-trained ones."""
    alarms = np.mean([s > threshold for s, _ in search(ordinary)])
    cells = [name, f"{threshold:.3f}", f"{100 * alarms:.0f}"]
    for images, of in plants.values():
        right = [
            s > threshold and path == o for (s, path), o in zip(search(images), of, strict=True)
        ]
        cells.append(f"{100 * np.mean(right):.0f}")
    return cells


def whole(recipe: Recipe, trained: Trained) -> Callable[[Images], list[Best]]:
    """Search as whole pictures."""
    rows = recipe.embed(np.stack([p.pixels for p in trained.found]))

    def search(images: Images) -> list[Best]:
        similarity, at = nearest(recipe.embed(images), rows)
        return [
            (float(s), trained.found[n].id) for s, n in zip(similarity[:, 0], at[:, 0], strict=True)
        ]

    return search


def tiles_alone(tiled: Tiled) -> Callable[[Images], list[Best]]:
    """Search by the features of tiles."""

    def search(images: Images) -> list[Best]:
        found = proposals(images, tiled.index, tiled.recipe, tiled.finer)
        return [(some[0].similarity, some[0].path) if some else (0.0, "") for some in found]

    return search


def decided(tiled: Tiled) -> Callable[[Images], list[Best]]:
    """Search as an audit does."""
    return lambda images: [
        (m.similarity, m.path) if m else (-1.0, "") for m in nearest_parts(images, tiled)
    ]


def main() -> None:
    """Print the table."""
    trained, console = Trained(), Console(width=200)
    controls, ordinary = never(0, CONTROLS), never(1, NEVER + PLANTED)
    ordinary, grounds = ordinary[:NEVER], ordinary[NEVER:]
    plants = {name: planted(kind, trained, grounds) for name, kind in KINDS.items()}
    model = load(embedded.folder())
    for kind in THROUGH:
        images, of = plants[kind]
        plants[f"{kind}, autoencoder"] = model.reconstruct(images), of
    table = Table("search", "threshold", "false alarms", *plants, "ms", title="Found, %")

    def add(name: str, search: Callable[[Images], list[Best]]) -> None:
        begun = time.perf_counter()
        similarities = [s for s, _ in search(controls)]
        taken = 1000 * (time.perf_counter() - begun) / len(controls)
        threshold = calibrate(name, similarities, RATE).threshold
        cells = [*row(name, threshold, search, ordinary, plants), f"{taken:.0f}"]
        table.add_row(*cells)
        console.print(" | ".join(cells))

    for recipe in (Pixels(), SSCD(side=96)):
        add(f"{recipe.name}, whole", whole(recipe, trained))
    for bare, grid, finer in (
        (SSCD(side=96), 5, 2),
        (SSCD(side=96), 3, 2),
        (Pixels(8), 5, 2),
    ):
        with tempfile.TemporaryDirectory() as folder:
            recipe = Structured(bare)
            build_index(Tiles(trained, grid), Path(folder), recipe, side=SIDE)
            tiled = Tiled(open_index(folder), trained, recipe, finer)
            name = f"{bare.name}, tiles {grid}, finer {finer}"
            add(f"{name}, alone", tiles_alone(tiled))
            add(f"{name}, pixels decide", decided(tiled))
    console.print(table)


if __name__ == "__main__":
    main()
