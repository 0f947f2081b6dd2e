"""An audit: training pictures and a model in, evidence out.

Everything that takes time is kept below `work/` of the audit's folder: the index, the controls and
the runs. Killed and started again, an audit goes on there and ends with the same evidence; what
was asked is written down first, and another question is refused. The bundle is written last.
"""

import shlex
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from sidestep.audit import candidates, controls, names, parts, remedy
from sidestep.audit.engines import Engines
from sidestep.audit.evidence import Evidence, Finding, Share, TrainingPicture
from sidestep.audit.findings import asked, findings, results, share
from sidestep.audit.ground import Ground, Place, for_captions
from sidestep.audit.local import Tiled
from sidestep.audit.plan import begun
from sidestep.audit.prompts import is_cut
from sidestep.audit.remedy import Remedy
from sidestep.audit.request import Material, Request, Subject
from sidestep.audit.spelling import number, options
from sidestep.audit.statement import Facts, state
from sidestep.audit.verdict import Observed, judge
from sidestep.audit.writing import write_bundle
from sidestep.errors import BadRecords
from sidestep.runs.generate import Report, silent
from sidestep.runs.records import Record
from sidestep.similarity.base import Images, Vectors
from sidestep.similarity.structured import Structured

WORK = "work"


def audit(
    out: Path,
    subject: Subject,
    material: Material,
    request: Request,
    *,
    command: str,
    present: Callable[[Path], object],
    engines: Engines = Engines(),  # noqa: B008 frozen
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
        engines: where pictures are made, embedded and searched for.
        report: told the task and how much of it is done.

    Raises:
        BadRecords: the folder holds another audit, or another process works in it.
        BadData: the pictures, controls or prompts cannot be used, or `request.tries` names what
            needs more than numbers.
        SidestepError: it names no method.
    """
    candidates.load(request.tries)  # a wrong name is said before anything is made
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0), engines.begun():
            created = begun(work, subject, material, request)
            on = Ground(Place(work, engines, report), subject, material, request)
            evidence, pictures, records = _evidence(on, created, command)
            write_bundle(out, work, evidence, pictures, records, present)
            return evidence
    except Timeout as error:
        raise BadRecords(
            f"another process is auditing in {out}; wait for it or give another folder"
        ) from error


def _evidence(
    on: Ground, created: str, command: str
) -> tuple[Evidence, dict[str, Images], dict[str, list[Record]]]:
    """The evidence, the training pictures it shows by file, and the records of its parts."""
    again = partial(_again, on)
    observed = on.make(names.OBSERVED, on.jobs, [on.how], on.request.seed)
    made = asked(observed)
    counted = results(observed, on.captions, on.calibration.median)
    pieces = _pieces(on, observed)
    local = parts.share(pieces, observed) if on.request.tiles else None
    counted = msgspec.structs.replace(counted, local=local)
    positives = controls.positives(on.training, on.threshold, on.planted, on.subject.model)
    negative = _negative(on, made)
    verdict = judge(
        Observed(
            level=on.request.level,
            rate=on.request.rate,
            share=share(made) if made else None,
            prompts=counted.prompts,
            captions=len(on.captions),
            positives=positives,
            negative=negative,
            pictures=sum(1 for _ in on.index.pictures()),
            readable=len(on.index.ids),
            local=local,
        )
    )
    whole = {str(r.nearest) for r in observed if r.copy}
    shown = _named(on, whole, {one.match.path for one in pieces})
    by_path = {one.path: one for one in shown.values()}
    found = findings(observed, shown, again)
    found += parts.findings(pieces, observed, by_path, again)
    rows = {names.OBSERVED: observed}
    cure = Remedy((), None, {})
    # A remedy is judged by whole copies; parts alone have none.
    if verdict.state == "finding" and counted.prompts:
        cure = _remedy(on, [g.name for g in counted.prompts], command)
        rows |= cure.records
        found = [_confirmed(one, cure) for one in found]
    facts = Facts(
        subject=on.subject,
        material=on.material,
        request=on.request,
        index=on.index,
        times=on.times,
        duplicate=on.duplicate,
        captions=on.captions,
        known=on.every_caption,
        calibration=on.calibration,
        positives=positives,
        negative=negative,
    )
    pixels = _pixels(on, [one.training for one in found])
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


def _negative(on: Ground, made: Sequence[Record]) -> Share | None:
    if not made:
        return None
    rows = list[Vectors]()
    for first in range(0, len(made), controls.CHUNK):
        part = made[first : first + controls.CHUNK]
        images = [np.asarray(Image.open(on.work / names.OBSERVED / r.image)) for r in part]
        rows.append(on.training.recipes[0].embed(np.stack(images)))
    return controls.negative(
        on.index,
        on.controls,
        np.concatenate(rows),
        [r.similarity[str(r.recipe)] for r in made],
        on.threshold,
    )


def _pieces(on: Ground, observed: Sequence[Record]) -> list[parts.Found]:
    """Parts of training pictures in pictures that are no copies, where they are asked for."""
    if on.tiles is None:
        return []
    training = Tiled(on.tiles, on.material.images, Structured(on.material.recipe))
    search = parts.Search(training, on.never_trained, on.controls, on.request.rate)
    return parts.find(search, observed, on.work / names.OBSERVED)


def _named(on: Ground, ids: Container[str], paths: Container[str]) -> dict[str, TrainingPicture]:
    """What the evidence says of the training pictures of those ids or paths."""
    readable = (p for p in on.index.pictures() if p.status == "ok")
    return {
        p.id: TrainingPicture(
            id=p.id,
            path=p.path,
            sha256=p.sha256,
            caption=p.caption,
            times=int(on.times[row]),
            picture=names.training(p.id),
        )
        for row, p in enumerate(readable)
        if p.id in ids or p.path in paths
    }


def _pixels(on: Ground, shown: Iterable[TrainingPicture]) -> dict[str, Images]:
    """Training pictures by file of the bundle; what can no longer be read is left out."""
    files = {one.path: str(one.picture) for one in shown}
    shown_as = list(files.values())
    rows = {path: row for row, path in enumerate(files)}
    found = controls.pixels(on.material.images, rows, on.material.side)
    return {shown_as[row]: image for row, image in found.items()}


def _remedy(on: Ground, copied: Sequence[str], command: str) -> Remedy:
    prompts = copied[: on.request.tried_prompts]
    ask = on.request
    question = remedy.Question(
        model=on.subject.model,
        audited=on.how,
        findings=for_captions(prompts, min(ask.draws, ask.tried_draws)),
        ordinary=on.ordinary,
        confirm=for_captions(prompts, ask.draws),
        level=ask.level,
        seed=ask.seed,
        new_seed=ask.seed + 1,
        command=command,
    )
    return remedy.find(question, candidates.load(ask.tries), on.make)


def _again(on: Ground, record: Record) -> str:
    """The command that makes a picture once more."""
    prompt = shlex.quote(record.prompt)
    cut = " --cut" if is_cut(on.subject.model, record.prompt) else ""
    return (
        f"sidestep sample MODEL {prompt}{_loading(on)} {options(on.subject.method)} "
        f"--steps {on.request.steps} --seed {on.request.seed} --draws {record.draw + 1}{cut}"
    )


def _loading(on: Ground) -> str:
    name, weight = on.subject.lora, on.subject.lora_scale
    given = [] if name is None else ["--lora", name]
    given += [] if name is None or weight == 1 else ["--lora-scale", number(weight)]
    return "".join(f" {shlex.quote(one)}" for one in [*given, *on.subject.loading])


def _confirmed(one: Finding, cure: Remedy) -> Finding:
    prompts = {g.name for g in one.prompts}
    rows = [r for r in cure.confirmed if r.prompt in prompts]
    return msgspec.structs.replace(one, confirmed=share(rows)) if rows else one


def _shown(one: Finding, pixels: Container[str]) -> Finding:
    """A finding that names the file of its training picture only if there is one."""
    if one.training.picture in pixels:
        return one
    lost = msgspec.structs.replace(one.training, picture=None)
    return msgspec.structs.replace(one, training=lost)
