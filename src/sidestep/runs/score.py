"""Score generated pictures: nearest training picture, copy or not, prompt agreement, spread."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import SidestepError
from sidestep.runs.generate import Report, silent
from sidestep.runs.records import Form, Record
from sidestep.similarity.aggregates import spread
from sidestep.similarity.agreement import Prototypes, features
from sidestep.similarity.base import Recipe, Vectors
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.similarity.search import nearest

Images = NDArray[np.uint8]
CHUNK = 256  # training pictures in memory at once


class Training(Protocol):
    """Training pictures to compare with; the first recipe decides what is a copy."""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How pictures are compared."""
        ...

    def nearest(self, recipe: Recipe, rows: Vectors) -> tuple[list[str], list[float]]:
        """Ids and similarities of the training pictures nearest to (N, D) features."""
        ...

    def closest(self, recipe: Recipe, row: Vectors, own: Sequence[int]) -> float:
        """The highest similarity of a feature (D,) to those training pictures, by row."""
        ...


class References(NamedTuple):
    """Training pictures as the recipes see them, in memory."""

    recipes: tuple[Recipe, ...]
    ids: list[str]
    vectors: dict[str, Vectors]  # by recipe, rows as in `ids`

    def nearest(self, recipe: Recipe, rows: Vectors) -> tuple[list[str], list[float]]:
        """Ids and similarities of the training pictures nearest to (N, D) features."""
        top, index = nearest(rows, self.vectors[recipe.name])
        return [self.ids[int(i)] for i in index[:, 0]], [float(s) for s in top[:, 0]]

    def closest(self, recipe: Recipe, row: Vectors, own: Sequence[int]) -> float:
        """The highest similarity of a feature (D,) to those training pictures, by row."""
        top, _ = nearest(row[None], self.vectors[recipe.name][list(own)])
        return float(top[0, 0])


def embed(
    recipes: Sequence[Recipe],
    pictures: Iterable[tuple[str, Images]],
    total: int,
    report: Report = silent,
) -> References:
    """Embed training pictures (H, W, 3) of one size, given by id; a part of them at a time.

    Raises SidestepError when there are none.
    """
    ids, parts = list[str](), {r.name: list[Vectors]() for r in recipes}
    rest = iter(pictures)
    while chunk := list(islice(rest, CHUNK)):
        ids += [name for name, _ in chunk]
        images = np.stack([image for _, image in chunk])
        for recipe in recipes:
            parts[recipe.name].append(recipe.embed(images))
        report("training pictures", min(len(ids), total), total)
    if not ids:
        raise SidestepError("there is no training picture to compare with; give at least one")
    return References(tuple(recipes), ids, {n: np.concatenate(rows) for n, rows in parts.items()})


class Asked(NamedTuple):
    """What is known of a prompt beside its text."""

    own: tuple[int, ...] = ()  # rows of the references: the prompt's own training pictures
    concept: str | None = None  # what its picture should show, if there is a prototype of it
    form: Form | None = None  # how lists of memorized prompts class it


class TextRecipe(Protocol):
    """A way to say how well a picture fits its prompt, such as a CLIP score."""

    @property
    def name(self) -> str:
        """Model and preprocessing; numbers of different names do not compare."""
        ...

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float64]:
        """One number (N,) for each picture (N, H, W, 3) and its prompt; higher = closer."""
        ...


@dataclass(frozen=True)
class Scorer:
    """Everything scoring needs; a `Score` of `bench.run`.

    `threshold` belongs to the deciding recipe: above it a picture is a copy. Without prototypes,
    or for a prompt whose concept is not known, the agreement of a record stays None.
    """

    training: Training
    threshold: float
    prompts: Mapping[str, Asked] = field(default_factory=dict)
    prototypes: Prototypes | None = None
    texts: tuple[TextRecipe, ...] = ()

    def __call__(self, records: list[Record], images: Images) -> list[Record]:
        """The records with their scores filled in; row i shows images[i]."""
        embedded = {r: r.embed(images) for r in self.training.recipes}
        found = {r: self.training.nearest(r, rows) for r, rows in embedded.items()}
        asked = [self.prompts.get(r.prompt, Asked()) for r in records]
        prompts = [r.prompt for r in records]
        texts = {t.name: t.score(images, prompts) for t in self.texts}
        decide = self.training.recipes[0]
        ids, top = found[decide]
        apart = _spread_by_prompt(records, embedded[decide])
        places = self._places(images, asked)
        return [
            replace(
                record,
                form=one.form,
                nearest=ids[i],
                similarity={r.name: best[i] for r, (_, best) in found.items()},
                own={
                    r.name: self.training.closest(r, rows[i], one.own)
                    for r, rows in embedded.items()
                }
                if one.own
                else None,
                recipe=decide.name,
                threshold=self.threshold,
                copy=top[i] > self.threshold,
                agreement=places[i],
                text={name: float(values[i]) for name, values in texts.items()},
                spread=apart[i],
            )
            for i, (record, one) in enumerate(zip(records, asked, strict=True))
        ]

    def _places(self, images: Images, asked: Sequence[Asked]) -> list[int | None]:
        result: list[int | None] = [None] * len(asked)
        named = [(i, a.concept) for i, a in enumerate(asked) if a.concept is not None]
        if self.prototypes is not None and named:
            rows, concepts = [i for i, _ in named], [c for _, c in named]
            places = self.prototypes.places(features(images[rows]), concepts)
            for i, place in zip(rows, places, strict=True):
                result[i] = int(place)
        return result


def calibrations(references: References, control: Images, rate: float) -> list[Calibration]:
    """For each recipe the threshold that at most the share `rate` of such pictures passes.

    `control` pictures (N, H, W, 3) are like the training pictures and were never trained on.
    """
    made = []
    for recipe in references.recipes:
        top, _ = nearest(recipe.embed(control), references.vectors[recipe.name])
        fingerprint = getattr(recipe, "fingerprint", "")  # recipes without a model have none
        made.append(calibrate(recipe.name, top[:, 0], rate, fingerprint=fingerprint))
    return made


def ceiling(prototypes: Prototypes, control: Images, concepts: Sequence[str]) -> dict[str, Any]:
    """The agreement that real pictures outside the training set reach."""
    places = prototypes.places(features(control), concepts)
    return {"r1": float((places <= 1).mean()), "r5": float((places <= 5).mean())}


def _spread_by_prompt(
    records: Sequence[Record], embedded: NDArray[np.float32]
) -> list[float | None]:
    groups: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault(record.prompt, []).append(i)
    result: list[float | None] = [None] * len(records)
    for rows in groups.values():
        if len(rows) > 1:
            for i, value in zip(rows, spread(embedded[rows]), strict=True):
                result[i] = float(value)
    return result
