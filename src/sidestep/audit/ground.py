"""What an audit stands on: index, controls, threshold, prompts, and pictures made and scored.

Each is made when it is first asked for and kept below the audit's working folder, where a killed
audit finds it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.audit import controls, names, near_duplicates
from sidestep.audit.build import build_index
from sidestep.audit.engines import Engines
from sidestep.audit.index import Index, open_index
from sidestep.audit.prompts import Caption, captions, choose
from sidestep.audit.request import Audited, Material, Request, Subject
from sidestep.audit.training import Indexed
from sidestep.errors import BadData
from sidestep.runs.generate import Job, Method, Report, sampler_of
from sidestep.runs.records import Record
from sidestep.runs.run import fill
from sidestep.runs.score import Asked, Scorer
from sidestep.similarity.base import Images, Recipe
from sidestep.similarity.calibration import Calibration
from sidestep.similarity.structured import Structured
from sidestep.sources.base import Collection
from sidestep.sources.collection import open_collection
from sidestep.sources.tiles import Tiles

AS_AUDITED = "as audited"  # label of the audited setting in every part
BASE = 2  # pictures of a base model for every one that the rate of false alarms asks for


def for_captions(prompts: Sequence[str], draws: int) -> list[Job]:
    """So many pictures of every caption; `findings.asked` finds their records."""
    return [Job(prompt, draw, "target") for prompt in prompts for draw in range(draws)]


@dataclass(frozen=True)
class Place:
    """Where an audit works, and with what."""

    work: Path
    engines: Engines
    report: Report


class Ground:
    """What an audit stands on; every property is the same however often the audit was killed."""

    def __init__(
        self, place: Place, subject: Subject, material: Material, request: Request
    ) -> None:
        self.place, self.work = place, place.work
        self.subject, self.material, self.request = subject, material, request
        self.how = replace(subject.method, label=AS_AUDITED)

    @cached_property
    def index(self) -> Index:
        """Of the training pictures."""
        return self._indexed("index", self.material.images)

    @cached_property
    def controls(self) -> Index:
        """Of the never-trained pictures."""
        return self._indexed("controls", self.never_trained)

    @cached_property
    def never_trained(self) -> Collection:
        """Given pictures, or those of the base model."""
        given = self.material.controls
        return self._base() if given is None else given

    def _indexed(self, name: str, collection: Collection, recipe: Recipe | None = None) -> Index:
        build_index(
            collection,
            self.work / name,
            recipe or self.material.recipe,
            side=self.material.side,
            engine=self.place.engines.embed,
            report=lambda _, done, total: self.place.report(f"{name}: pictures", done, total),
        )
        return open_index(self.work / name, self.place.engines.search)

    def _base(self) -> Collection:
        """What the model without its LoRA makes of the same captions, as a collection."""
        base = self.subject.base
        if base is None:
            raise BadData(
                "there are no controls: give pictures that were never trained on with --controls. "
                "`sidestep hold-out` sets some apart before training"
            )
        # Not by how often pictures are in the set: that needs the threshold, and it these controls.
        once = np.ones(len(self.index.ids), dtype=np.int64)
        every = choose(captions(self.index, once), self.request.captions)
        given = self.material.prompts
        prompts = [c.text for c in every] if given is None else list(given[: self.request.captions])
        wanted = int(np.ceil(BASE / self.request.rate))
        draws = max(self.request.draws, -(-wanted // max(len(prompts), 1)))
        jobs = for_captions(prompts, draws)
        self._fill(base, names.BASE, jobs, [self.how], self.request.seed + 2)
        return open_collection(str(self.work / names.BASE / "images" / self.how.slug))

    @cached_property
    def calibration(self) -> Calibration:
        """The threshold of a copy, from the never-trained pictures."""
        return controls.calibration(self.index, self.controls, self.request.rate)

    @property
    def threshold(self) -> float:
        """Above it a picture is a copy."""
        return self.calibration.threshold

    @property
    def duplicate(self) -> float:
        """From this similarity on two training pictures are near-duplicates."""
        asked = self.request.duplicate
        return asked if asked is not None else self.threshold

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """How often each readable picture is in the training set, (N,)."""
        return near_duplicates.copies(self.index, self.duplicate, self.place.report)

    @cached_property
    def every_caption(self) -> list[Caption]:
        """The captions of the training set."""
        return captions(self.index, self.times)

    @cached_property
    def captions(self) -> list[Caption]:
        """The prompts to sample: captions, or prompts of a file with what is known of them."""
        every, given = self.every_caption, self.material.prompts
        if given is not None:
            known = {c.text: c for c in every}
            every = [known.get(p, Caption(p, (), 0)) for p in given]
        return choose(every, self.request.captions) if every else []

    @property
    def jobs(self) -> list[Job]:
        """The pictures that the verdict rests on."""
        ask = self.request
        rows = for_captions([c.text for c in self.captions], ask.draws)
        return rows + self.ordinary + [Job("", draw, "other") for draw in range(ask.empty)]

    @property
    def ordinary(self) -> list[Job]:
        """Ordinary prompts that are no captions, a picture each."""
        taken = {c.text for c in self.captions}
        prompts = [p for p in self.material.ordinary if p not in taken]
        return [Job(p, 0, "ordinary") for p in prompts[: self.request.ordinary]]

    @cached_property
    def training(self) -> Indexed:
        """The training pictures as generated ones are compared with them."""
        own = {row for c in self.captions for row in c.rows}
        return Indexed(self.index, self.material.recipe, own)

    @cached_property
    def score(self) -> Scorer:
        """Nearest training picture, copy or not, and agreement where it is known."""
        concepts = self.material.concepts
        known = {c.text: Asked(c.rows, concepts.get(c.text)) for c in self.captions}
        known |= {j.prompt: Asked((), concepts.get(j.prompt)) for j in self.ordinary}
        return Scorer(
            self.training, self.threshold, known, self.material.prototypes, self.material.texts
        )

    @cached_property
    def planted(self) -> dict[int, Images]:
        """Training pictures to plant copies of, by row of the index."""
        return controls.planted(self.material.images, self.index)

    def make(
        self, part: str, jobs: Sequence[Job], methods: Sequence[Method], seed: int
    ) -> list[Record]:
        """Pictures of the audited model into a part of the work, scored."""
        return self._fill(
            self.subject.model,
            part,
            jobs,
            methods,
            seed,
            score=self.score,
            header={
                "index": self.index.hash,
                "controls": self.controls.hash,
                "calibration": self.calibration.to_dict(),
            },
        )

    def _fill(
        self,
        model: Audited,
        part: str,
        jobs: Sequence[Job],
        methods: Sequence[Method],
        seed: int,
        **more: Any,
    ) -> list[Record]:
        about = {
            "name": self.subject.name,
            "sha256": model.fingerprint,
            "sampler": sampler_of(model),
            "resolution": model.resolution,
        }
        header = {"model": about}
        return fill(
            self.work / part,
            model,
            jobs,
            methods,
            seed=seed,
            steps=self.request.steps,
            batch=self.request.batch,
            engine=self.place.engines.make,
            report=lambda task, done, total: self.place.report(f"{part}: {task}", done, total),
            **{**more, "header": header | more.get("header", {})},
        )

    @cached_property
    def tiles(self) -> Index | None:
        """Of the windows of the training pictures, where parts of them are looked for."""
        grid = self.request.tiles
        if grid is None:
            return None
        cut = Tiles(self.material.images, grid)
        return self._indexed("tiles", cut, Structured(self.material.recipe))
