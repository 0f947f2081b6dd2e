"""Controls: pictures that were never trained on, and copies that are planted.

Never-trained pictures say what chance looks like: their similarities to the training set set the
threshold, and generated pictures are searched for among them as they are among the training
pictures. Planted copies show that the search can see: training pictures as the model's own
autoencoder leaves them, which is what a perfect copy looks like, and edited in other ways.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from sidestep.audit.evidence import Positive, Share
from sidestep.audit.index import Index
from sidestep.audit.training import Indexed, rows
from sidestep.errors import BadData
from sidestep.similarity.base import Images, Vectors
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.similarity.search import nearest
from sidestep.sources.base import Collection
from sidestep.sources.pictures import Refused, content, decode

PLANTED = 100  # training pictures
CHUNK = 64  # pictures edited and embedded at once
THROUGH = "through the model's own autoencoder"


class Autoencoder(Protocol):
    """Pictures to latents and back."""

    def reconstruct(self, images: Images) -> Images:
        """Pictures (B, H, W, 3) as encoding and decoding leave them, of the same size."""
        ...


def calibration(index: Index, controls: Index, rate: float) -> Calibration:
    """The threshold above which at most the share `rate` of never-trained pictures lies.

    Raises BadData for controls of another recipe or side, or too few of them, and for controls
    that are training pictures by their bytes.
    """
    ours, theirs = index.settings, controls.settings
    if (ours.recipe, ours.fingerprint, ours.side) != (
        theirs.recipe,
        theirs.fingerprint,
        theirs.side,
    ):
        raise BadData("the controls are indexed with another recipe or side; index them alike")
    trained = {p.sha256 for p in index.pictures() if p.status == "ok"}
    both = [p.path for p in controls.pictures() if p.sha256 in trained]
    if both:
        raise BadData(
            f"{len(both)} controls are training pictures, {both[0]} the first; controls must be "
            "pictures that the model never saw"
        )
    # One search for all of them: the training pictures are many, and then read once.
    every = np.concatenate([block.rows for block in controls.rows()]).astype(np.float32)
    similarity = index.search(every, 1).similarity[:, 0]
    try:
        return calibrate(ours.recipe, similarity, rate, fingerprint=ours.fingerprint)
    except ValueError as error:
        raise BadData(f"{len(similarity)} controls are too few: {error}") from error


def negative(
    index: Index, controls: Index, features: Vectors, similarity: Sequence[float], threshold: float
) -> Share:
    """How many generated pictures would be copies of controls, had these been trained on.

    They would be if a control is above the threshold and nearer than any training picture. More
    pictures come nearer by chance, so no more controls than training pictures are looked at.

    Args:
        index: of the training pictures.
        controls: of the never-trained ones.
        features: (N, D), of the generated pictures.
        similarity: (N,) to the nearest training picture.
        threshold: above it a picture is a copy.
    """
    most = len(index.ids)
    chosen = sorted(range(len(controls.ids)), key=lambda row: str(controls.ids[row]))[:most]
    if len(chosen) < len(controls.ids):
        top, _ = nearest(features, np.stack(list(rows(controls, chosen).values())))
    else:
        top = controls.search(features, 1).similarity
    called = (top[:, 0] > threshold) & (top[:, 0] > np.asarray(similarity))
    return Share.count(int(called.sum()), len(called))


def planted(collection: Collection, index: Index, most: int = PLANTED) -> dict[int, Images]:
    """At most that many training pictures (side, side, 3) by row, chosen by their hash."""
    ok = [p for p in index.pictures() if p.status == "ok"]
    chosen = sorted(range(len(ok)), key=lambda row: ok[row].id)[:most]
    return pixels(collection, {ok[row].path: row for row in chosen}, index.settings.side)


def pixels(collection: Collection, wanted: Mapping[str, int], side: int) -> dict[int, Images]:
    """Pictures of a collection (side, side, 3), under the numbers that `wanted` gives to paths.

    What can no longer be read is left out.
    """
    found = dict[int, Images]()
    for item in collection.items() if wanted else ():
        if item.path in wanted and not isinstance(item.data, str):
            try:
                data = item.data if isinstance(item.data, bytes) else content(item.data)
                found[wanted[item.path]] = decode(data, side)
            except Refused:
                continue
            if len(found) == len(wanted):
                break
    return found


def positives(
    training: Indexed, threshold: float, planted: Mapping[int, Images], model: Autoencoder
) -> tuple[Positive, ...]:
    """Planted copies, by edit: how many are found, each close to its own picture.

    A copy is found if the search calls it one and its own picture, or an equally close twin, is
    above the threshold too. The first edit is what the model itself would give back at best.
    """
    recipe = training.recipes[0]
    own = rows(training.index, planted)
    numbers = list(planted)
    parts = [numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)]
    edited = {
        name: np.concatenate([recipe.embed(edit(np.stack([planted[n] for n in p]))) for p in parts])
        for name, edit in edits(model).items()
    }
    # One search for all edits, as the training pictures are many and then read once.
    _, top = training.nearest(recipe, np.concatenate(list(edited.values())))
    best = np.reshape(top, (len(edited), len(numbers)))
    result = []
    for row, (name, features) in zip(best, edited.items(), strict=True):
        near = zip(numbers, features, row, strict=True)
        seen = sum(t > threshold and float(f @ own[n]) > threshold for n, f, t in near)
        result.append(Positive(edit=name, found=Share.count(int(seen), len(numbers))))
    return tuple(result)


Edit = Callable[[Images], Images]


def edits(model: Autoencoder) -> dict[str, Edit]:
    """Ways in which a copy may differ from its picture, by name."""
    return {
        THROUGH: model.reconstruct,
        "JPEG of quality 50": _each(_jpeg),
        "a tenth brighter": _each(lambda image: ImageEnhance.Brightness(image).enhance(1.1)),
        "a tenth cut away": _each(_cropped),
        "mirrored": _each(ImageOps.mirror),
    }


def _each(edit: Callable[[Image.Image], Image.Image]) -> Edit:
    return lambda images: np.stack([np.asarray(edit(Image.fromarray(i))) for i in images])


def _jpeg(image: Image.Image) -> Image.Image:
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=50)
    return Image.open(memory).convert("RGB")


def _cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    edge = (width * 0.05, height * 0.05, width * 0.95, height * 0.95)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=edge)
