"""Score generated pictures: nearest training picture, copy or not, prompt agreement, spread."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.records import Record
from sidestep.bench.generate import Report, silent
from sidestep.similarity.aggregates import spread
from sidestep.similarity.agreement import Prototypes, features
from sidestep.similarity.base import Recipe
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.similarity.search import nearest

Images = NDArray[np.uint8]


class Labelled(NamedTuple):
    """Pictures (N, H, W, 3) with the id and the concept of each."""

    images: Images
    ids: list[str]
    concepts: list[str]


class Scorer:
    """Everything scoring needs, computed once from the training and the never-trained pictures.

    The first recipe decides what is a copy; its threshold is calibrated so that at most the share
    `rate` of the control pictures would pass as copies of the training set. `typical` pictures
    show what each concept looks like: agreement is measured against them, and its ceiling is what
    the control pictures reach.
    """

    def __init__(
        self,
        training: Labelled,
        control: Labelled,
        typical: Labelled,
        recipes: Sequence[Recipe],
        rate: float = 0.01,
        report: Report = silent,
    ) -> None:
        self.training, self.recipes = training, list(recipes)
        self.references: dict[str, NDArray[np.float32]] = {}
        self.calibrations: dict[str, Calibration] = {}
        for recipe in self.recipes:
            self.references[recipe.name] = _embed(recipe, training.images, report)
            top, _ = nearest(recipe.embed(control.images), self.references[recipe.name])
            fingerprint = getattr(recipe, "fingerprint", "")  # recipes without a model have none
            self.calibrations[recipe.name] = calibrate(
                recipe.name, top[:, 0], rate, fingerprint=fingerprint
            )
        report("caption prototypes", 0, 1)
        self.prototypes = Prototypes(features(typical.images), typical.concepts)
        places = self.prototypes.places(features(control.images), control.concepts)
        self.ceiling = {"r1": float((places <= 1).mean()), "r5": float((places <= 5).mean())}
        report("caption prototypes", 1, 1)

    @property
    def deciding(self) -> Recipe:
        """The recipe that decides."""
        return self.recipes[0]

    def score(
        self, records: Sequence[Record], images: Images, concepts: Sequence[str]
    ) -> list[Record]:
        """The records of one rule with their scores filled in; row i shows images[i]."""
        embedded = {r.name: r.embed(images) for r in self.recipes}
        found = {name: nearest(rows, self.references[name]) for name, rows in embedded.items()}
        places = self.prototypes.places(features(images), list(concepts))
        decide = self.deciding.name
        top, index = found[decide]
        copies = self.calibrations[decide].copies(top[:, 0])
        apart = _spread_by_prompt(records, embedded[decide])
        return [
            replace(
                record,
                nearest=self.training.ids[int(index[i, 0])],
                similarity={name: float(best[i, 0]) for name, (best, _) in found.items()},
                recipe=decide,
                threshold=self.calibrations[decide].threshold,
                copy=bool(copies[i]),
                agreement=int(places[i]),
                spread=apart[i],
            )
            for i, record in enumerate(records)
        ]

    def header(self) -> dict[str, Any]:
        """What the run header records of the scoring."""
        return {
            "calibration": [c.to_dict() for c in self.calibrations.values()],
            "agreement_ceiling": self.ceiling,
        }


def _embed(recipe: Recipe, images: Images, report: Report) -> NDArray[np.float32]:
    parts = []
    for first in range(0, len(images), 256):
        parts.append(recipe.embed(images[first : first + 256]))
        report(f"training pictures, {recipe.name}", min(first + 256, len(images)), len(images))
    return np.concatenate(parts)


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
