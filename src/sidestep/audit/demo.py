"""The embedded model audited against the pictures it was trained on.

Its training set is given as a folder would hold it: each memorized scene about as often as training
showed it for every background picture, which is what made the model memorize it. The controls are
drawings of captions that it was never trained on.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.request import Material
from sidestep.bench.demo import ORDINARY_FORMS, asked, prototypes
from sidestep.models.embedded import drawings, pictures
from sidestep.runs.work import png
from sidestep.similarity.pixels import Pixels
from sidestep.sources.base import Item

TIMES = 30  # a scene, for each background picture; see training/recipe.toml
RATE = 0.001  # of false alarms; 1,110 controls allow it
STEPS = 25


class Drawn:
    """Pictures in memory as a collection."""

    def __init__(self, rows: Sequence[tuple[str, str, NDArray[np.uint8]]]) -> None:
        """(path, caption, pixels) of each."""
        self._rows = rows

    def count(self) -> int:
        """How many there are."""
        return len(self._rows)

    def items(self) -> Iterator[Item]:
        """Each as the bytes of a PNG file."""
        for path, caption, pixels in self._rows:
            yield Item(path, png(pixels), caption)


def training() -> Drawn:
    """The training set, scenes first."""
    scenes = [
        (f"scenes/{scene.id.rpartition('/')[2]}/{copy:02d}.png", scene.caption, scene.pixels)
        for scene in pictures.target_pictures()
        for copy in range(TIMES)
    ]
    others = [(f"{p.id}.png", p.caption, p.pixels) for p in pictures.background_pictures()]
    return Drawn([*scenes, *others])


def never_trained() -> Drawn:
    """One picture of a drawing of each caption that the model was not trained on."""
    trained = set(pictures.concepts())
    rows = []
    for caption, of in drawings.by_caption().items():
        if caption not in trained:
            name = f"control/{of[0].number:04d}"
            rows.append((f"{name}.png", caption, pictures.compose(of[0], name)))
    return Drawn(rows)


def ordinary() -> list[str]:
    """Captions over the vocabulary that no single picture was trained under."""
    return [ORDINARY_FORMS[1].format(concept) for concept in pictures.concepts()]


def material() -> Material:
    """Everything an audit of the embedded model needs beside the model."""
    known = {prompt: one.concept for prompt, one in asked().items() if one.concept is not None}
    return Material(
        images=training(),
        source="training pictures of the embedded model",
        recipe=Pixels(),
        side=drawings.SIDE,
        controls=never_trained(),
        controls_source="drawings of captions that it was not trained on",
        ordinary=ordinary(),
        ordinary_source="'a drawing of a ...' over its vocabulary",
        concepts=known | {concept: concept for concept in pictures.concepts()},
        prototypes=prototypes(),
    )
