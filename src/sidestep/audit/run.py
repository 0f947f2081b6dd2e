"""An audit: training pictures and a model in, evidence out.

Everything that takes time is kept below `work/` of the audit's folder: the index, the controls and
the runs. Killed and started again, an audit goes on there and ends with the same evidence; what
was asked is written down first, and another question is refused. The bundle is written last.
"""

import shlex
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from sidestep.audit import candidates, controls, near_duplicates, parts, remedy
from sidestep.audit.build import build_index
from sidestep.audit.evidence import Evidence, Finding, Share, TrainingPicture
from sidestep.audit.findings import findings, results, share
from sidestep.audit.index import Index, open_index
from sidestep.audit.plan import begun
from sidestep.audit.prompts import Caption, captions, choose
from sidestep.audit.remedy import Remedy
from sidestep.audit.request import Audited, Material, Request, Subject
from sidestep.audit.spelling import options
from sidestep.audit.statement import Facts, state
from sidestep.audit.training import Indexed
from sidestep.audit.verdict import Observed, judge
from sidestep.audit.writing import write_bundle
from sidestep.errors import BadData, BadRecords
from sidestep.runs.generate import Job, Method, Report, silent
from sidestep.runs.records import Record
from sidestep.runs.run import fill
from sidestep.runs.score import Asked, Scorer
from sidestep.runs.work import Engine, serial
from sidestep.similarity.base import Images, Recipe, Vectors
from sidestep.similarity.calibration import Calibration
from sidestep.similarity.structured import Structured
from sidestep.sources.base import Collection
from sidestep.sources.collection import open_collection
from sidestep.sources.tiles import Tiles

WORK = "work"
AS_AUDITED = "as audited"  # label of the audited setting in every part
BASE = 2  # pictures of a base model for every one that the rate of false alarms asks for


def audit(
    out: Path,
    subject: Subject,
    material: Material,
    request: Request,
    *,
    command: str,
    present: Callable[[Path], object],
    engine: Engine = serial,
    workers: int | None = None,
    report: Report = silent,
) -> Evidence:
    """Audit a model and write the bundle into `out`.

    Args:
        out: the folder of the audit; one that was stopped goes on.
        subject: the model, and the setting it is used with.
        material: training pictures, controls and prompts.
        request: how much of everything.
        command: what was typed, without a machine's paths and the setting; for the report.
        present: writes the report of a bundle, such as `web.evidence.write_evidence_report`.
        engine: where pictures are made.
        workers: decoding processes; None = one for each core.
        report: told the task and how much of it is done.

    Raises:
        BadRecords: the folder holds another audit, or another process works in it.
        BadData: the pictures, controls or prompts cannot be used.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            created = begun(work, subject, material, request)
            made = _Audit(work, subject, material, request, engine, workers, report)
            evidence, pictures, records = made.run(created, command)
            write_bundle(out, work, evidence, pictures, records, present)
            return evidence
    except Timeout as error:
        raise BadRecords(
            f"another process is auditing in {out}; wait for it or give another folder"
        ) from error


class _Audit:
    """The steps, each from what the ones before it left."""

    def __init__(
        self,
        work: Path,
        subject: Subject,
        material: Material,
        request: Request,
        engine: Engine,
        workers: int | None,
        report: Report,
    ) -> None:
        self.work, self.subject, self.material, self.request = work, subject, material, request
        self.engine, self.workers, self.report = engine, workers, report
        self.how = replace(subject.method, label=AS_AUDITED)

    def run(
        self, created: str, command: str
    ) -> tuple[Evidence, dict[str, Images], dict[str, list[Record]]]:
        """The evidence, the training pictures it shows by file, and the records of its parts."""
        observed = self.make("observed", self.jobs, [self.how], self.request.seed)
        asked = [r for r in observed if r.kind == "target"]
        counted = results(observed, self.captions, self.calibration.median)
        pieces = self.pieces(observed)
        local = parts.share(pieces, observed) if self.request.tiles else None
        counted = msgspec.structs.replace(counted, local=local)
        positives = controls.positives(
            self.training, self.threshold, self.planted, self.subject.model
        )
        negative = self.negative(asked)
        verdict = judge(
            Observed(
                level=self.request.level,
                rate=self.request.rate,
                share=share(asked) if asked else None,
                prompts=counted.prompts,
                captions=len(self.captions),
                positives=positives,
                negative=negative,
                pictures=sum(1 for _ in self.index.pictures()),
                readable=len(self.index.ids),
                local=local,
            )
        )
        whole = {str(r.nearest) for r in observed if r.copy}
        shown = self.named(whole, {one.match.path for one in pieces})
        by_path = {one.path: one for one in shown.values()}
        found = findings(observed, shown, self.again)
        found += parts.findings(pieces, observed, by_path, self.again)
        rows = {"observed": observed}
        cure = Remedy((), None, {})
        # A remedy is judged by whole copies; parts alone have none.
        if verdict.state == "finding" and counted.prompts:
            cure = self.remedy(asked, command)
            rows |= cure.records
            found = [_confirmed(one, cure) for one in found]
        facts = Facts(
            subject=self.subject,
            material=self.material,
            request=self.request,
            index=self.index,
            times=self.times,
            duplicate=self.duplicate,
            captions=self.captions,
            known=self.every_caption,
            calibration=self.calibration,
            positives=positives,
            negative=negative,
        )
        pixels = self.pixels(one.training for one in found)
        evidence = state(
            facts,
            created=created,
            command=command,
            verdict=verdict,
            results=counted,
            findings=tuple(_shown(one, pixels) for one in found),
            remedy=cure,
            agreement=remedy.measure([r for r in observed if r.kind != "other"]),
            records=rows,
        )
        return evidence, pixels, rows

    @cached_property
    def index(self) -> Index:
        return self._indexed("index", self.material.images)

    @cached_property
    def controls(self) -> Index:
        return self._indexed("controls", self.never_trained)

    @cached_property
    def never_trained(self) -> Collection:
        given = self.material.controls
        return self._base() if given is None else given

    def _indexed(self, name: str, collection: Collection, recipe: Recipe | None = None) -> Index:
        build_index(
            collection,
            self.work / name,
            recipe or self.material.recipe,
            side=self.material.side,
            workers=self.workers,
            report=lambda _, done, total: self.report(f"{name}: pictures", done, total),
        )
        return open_index(self.work / name)

    def _base(self) -> Collection:
        """What the model without its LoRA makes of the same captions, as a collection."""
        base = self.subject.base
        if base is None:
            raise BadData(
                "there are no controls: give pictures that were never trained on with --controls. "
                "`sidestep hold-out` sets some apart before training"
            )
        prompts = [c.text for c in self.captions]
        wanted = int(np.ceil(BASE / self.request.rate))
        draws = max(self.request.draws, -(-wanted // max(len(prompts), 1)))
        jobs = [Job(prompt, draw, "target") for prompt in prompts for draw in range(draws)]
        self._fill(base, "base", jobs, [self.how], self.request.seed + 2)
        return open_collection(str(self.work / "base" / "images" / self.how.slug))

    @cached_property
    def calibration(self) -> Calibration:
        return controls.calibration(self.index, self.controls, self.request.rate)

    @property
    def threshold(self) -> float:
        return self.calibration.threshold

    @property
    def duplicate(self) -> float:
        asked = self.request.duplicate
        return asked if asked is not None else self.threshold

    @cached_property
    def times(self) -> Any:
        return near_duplicates.copies(self.index, self.duplicate, self.report)

    @cached_property
    def every_caption(self) -> list[Caption]:
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
        ask = self.request
        rows = [Job(c.text, draw, "target") for c in self.captions for draw in range(ask.draws)]
        rows += self.ordinary
        return rows + [Job("", draw, "other") for draw in range(ask.empty)]

    @property
    def ordinary(self) -> list[Job]:
        taken = {c.text for c in self.captions}
        prompts = [p for p in self.material.ordinary if p not in taken]
        return [Job(p, 0, "ordinary") for p in prompts[: self.request.ordinary]]

    @cached_property
    def training(self) -> Indexed:
        own = {row for c in self.captions for row in c.rows}
        return Indexed(self.index, self.material.recipe, own)

    @cached_property
    def score(self) -> Scorer:
        concepts = self.material.concepts
        known = {c.text: Asked(c.rows, concepts.get(c.text)) for c in self.captions}
        known |= {j.prompt: Asked((), concepts.get(j.prompt)) for j in self.ordinary}
        return Scorer(
            self.training, self.threshold, known, self.material.prototypes, self.material.texts
        )

    @cached_property
    def planted(self) -> dict[int, Any]:
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
        header = {"model": {"name": self.subject.name, "sha256": model.fingerprint}}
        return fill(
            self.work / part,
            model,
            jobs,
            methods,
            seed=seed,
            steps=self.request.steps,
            batch=self.request.batch,
            engine=self.engine,
            report=lambda task, done, total: self.report(f"{part}: {task}", done, total),
            **{**more, "header": header | more.get("header", {})},
        )

    def negative(self, asked: Sequence[Record]) -> Share | None:
        if not asked:
            return None
        parts = list[Vectors]()
        for first in range(0, len(asked), controls.CHUNK):
            names = [r.image for r in asked[first : first + controls.CHUNK]]
            images = [np.asarray(Image.open(self.work / "observed" / name)) for name in names]
            parts.append(self.training.recipes[0].embed(np.stack(images)))
        return controls.negative(
            self.index,
            self.controls,
            np.concatenate(parts),
            [r.similarity[str(r.recipe)] for r in asked],
            self.threshold,
        )

    def pieces(self, observed: Sequence[Record]) -> list[parts.Found]:
        """Parts of training pictures in pictures that are no copies, where they are asked for."""
        grid = self.request.tiles
        if grid is None:
            return []
        recipe = Structured(self.material.recipe)
        search = parts.Search(
            self._indexed("tiles", Tiles(self.material.images, grid), recipe),
            recipe,
            self.never_trained,
            self.controls,
            self.request.rate,
        )
        return parts.find(search, observed, self.work / "observed")

    def named(self, ids: Container[str], paths: Container[str]) -> dict[str, TrainingPicture]:
        """What the evidence says of the training pictures of those ids or paths."""
        readable = (p for p in self.index.pictures() if p.status == "ok")
        return {
            p.id: TrainingPicture(
                id=p.id,
                path=p.path,
                sha256=p.sha256,
                caption=p.caption,
                times=int(self.times[row]),
                picture=f"pictures/training/{p.id}.png",
            )
            for row, p in enumerate(readable)
            if p.id in ids or p.path in paths
        }

    def pixels(self, shown: Iterable[TrainingPicture]) -> dict[str, Images]:
        """Training pictures by file of the bundle; what can no longer be read is left out."""
        files = {one.path: str(one.picture) for one in shown}
        names = list(files.values())
        rows = {path: row for row, path in enumerate(files)}
        found = controls.pixels(self.material.images, rows, self.material.side)
        return {names[row]: image for row, image in found.items()}

    def remedy(self, asked: Sequence[Record], command: str) -> Remedy:
        copied = [g.name for g in results(asked, self.captions, 0.0).prompts]
        prompts = copied[: self.request.tried_prompts]
        ask = self.request
        question = remedy.Question(
            model=self.subject.model,
            audited=self.how,
            findings=_jobs(prompts, min(ask.draws, ask.tried_draws)),
            ordinary=self.ordinary,
            confirm=_jobs(prompts, ask.draws),
            level=ask.level,
            seed=ask.seed,
            new_seed=ask.seed + 1,
            command=command,
        )
        return remedy.find(question, candidates.load(ask.tries), self.make)

    def again(self, record: Record) -> str:
        """The command that makes a picture once more."""
        prompt = shlex.quote(record.prompt)
        return (
            f"sidestep sample MODEL {prompt} {options(self.subject.method)} "
            f"--steps {self.request.steps} --seed {self.request.seed} --draws {record.draw + 1}"
        )


def _jobs(prompts: Sequence[str], draws: int) -> list[Job]:
    return [Job(prompt, draw, "target") for prompt in prompts for draw in range(draws)]


def _confirmed(one: Finding, cure: Remedy) -> Finding:
    asked = {g.name for g in one.prompts}
    rows = [r for r in cure.confirmed if r.prompt in asked]
    return msgspec.structs.replace(one, confirmed=share(rows)) if rows else one


def _shown(one: Finding, pixels: Container[str]) -> Finding:
    """A finding that names the file of its training picture only if there is one."""
    if one.training.picture in pixels:
        return one
    lost = msgspec.structs.replace(one.training, picture=None)
    return msgspec.structs.replace(one, training=lost)
