"""The evidence put together: every fact under its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.audit import names
from sidestep.audit.evidence import (
    Evidence,
    Finding,
    ModelFacts,
    Positive,
    PromptFacts,
    Results,
    Scope,
    SearchFacts,
    Share,
    TrainingFacts,
    Verdict,
)
from sidestep.audit.index import Index
from sidestep.audit.near_duplicates import levels
from sidestep.audit.prompts import Caption, digest, is_cut
from sidestep.audit.remedy import Remedy
from sidestep.audit.request import Material, Request, Subject
from sidestep.audit.spelling import number, options
from sidestep.runs.generate import sampler_of
from sidestep.runs.header import settings_of_run
from sidestep.runs.records import Record
from sidestep.similarity.calibration import Calibration

LIMITS = (
    "This is evidence of resistance to the attacks that were run, no certificate: other prompts, "
    "seeds, settings or attacks may give pictures back that these did not.",
    "A copy is what passes the calibrated threshold of one similarity. It says that a picture is "
    "closer to a training picture than chance makes pictures, and nothing about law.",
    "Nothing is said of training pictures whose captions were not sampled.",
)
NOT_TESTED = (
    "membership inference: whether a picture was in the training set without coming back",
    "attacks that optimise prompts, embeddings or first noise",
    "other samplers, resolutions, image-to-image, inpainting, control networks",
    "fine-tuning of the model to bring pictures back",
)
NO_PARTS = "parts of training pictures inside of others (a logo, a face)"


@dataclass(frozen=True)
class Facts:
    """What the steps of an audit found out before any verdict."""

    subject: Subject
    material: Material
    request: Request
    index: Index
    times: NDArray[np.int64]
    duplicate: float
    captions: Sequence[Caption]  # sampled
    known: Sequence[Caption]  # of the training set
    calibration: Calibration
    positives: tuple[Positive, ...]
    negative: Share | None


def state(
    facts: Facts,
    *,
    created: str,
    command: str,
    verdict: Verdict,
    results: Results,
    findings: tuple[Finding, ...],
    remedy: Remedy,
    agreement: str | None,
    records: Mapping[str, Sequence[Record]],
) -> Evidence:
    """The evidence of an audit."""
    versions = settings_of_run()["versions"]
    return Evidence(
        scope=_scope(facts, created, command, versions),
        verdict=verdict,
        limits=(*LIMITS, _reach(facts)),
        model=_model(facts),
        training=_training(facts),
        prompts=_prompts(facts),
        search=_search(facts),
        results=results,
        findings=findings,
        tried=remedy.tried,
        recommendation=remedy.recommendation,
        agreement=agreement,
        records={part: names.records(part) for part in records},
        versions=versions,
    )


def _reach(facts: Facts) -> str:
    """What shares and their intervals are of.

    Given the model, pictures of different seeds are independent, each a copy with the chance of its
    prompt. A sum of such varies at most as much as if all had their mean chance (Hoeffding, On the
    Distribution of the Number of Successes in Independent Trials, 1956), for which the intervals
    were made.
    """
    sampled, every = len(facts.captions), _every(facts)
    of = (
        f"all {every} prompts"
        if sampled == every
        else f"the {sampled} sampled prompts, the most duplicated of {every} first, and say "
        "nothing of the others"
    )
    return (
        f"Shares and their intervals are of {of}. For those the intervals hold in at least 95 % of "
        "cases, however much prompts differ."
    )


def _every(facts: Facts) -> int:
    """The prompts of which those that were sampled were chosen."""
    given = facts.material.prompts
    return len(given) if given is not None else len(facts.known)


def _scope(facts: Facts, created: str, command: str, versions: Mapping[str, str]) -> Scope:
    ask = facts.request
    tested = [f"{facts.material.prompts_source}: {len(facts.captions)}, {ask.draws} pictures each"]
    if ask.ordinary:
        tested.append(f"ordinary prompts ({facts.material.ordinary_source})")
    if ask.empty:
        tested.append("no prompt at all")
    if ask.tiles:
        tested.append(f"parts of pictures, in {ask.tiles} x {ask.tiles} windows")
    return Scope(
        question=ask.question,
        context=ask.context,
        auditor=ask.auditor,
        created=created,
        tool=f"sidestep {versions['sidestep']}",
        command=f"{command} {options(facts.subject.method)}",
        tested=tuple(tested),
        not_tested=NOT_TESTED if ask.tiles else (NO_PARTS, *NOT_TESTED),
    )


def _model(facts: Facts) -> ModelFacts:
    subject, ask = facts.subject, facts.request
    return ModelFacts(
        name=subject.name,
        sha256=subject.model.fingerprint,
        lora=None if subject.lora is None else f"{subject.lora} x {number(subject.lora_scale)}",
        method=options(subject.method),
        settings={"name": subject.method.name, **subject.method.settings},
        steps=ask.steps,
        scale=subject.method.scale,
        sampler=sampler_of(subject.model),
        resolution=subject.model.resolution,
        precision=subject.model.precision,
    )


def _training(facts: Facts) -> TrainingFacts:
    reasons = dict[str, int]()
    total = 0
    for picture in facts.index.pictures():
        total += 1
        if picture.status != "ok":
            reasons[picture.reason] = reasons.get(picture.reason, 0) + 1
    return TrainingFacts(
        source=facts.material.source,
        pictures=total,
        readable=len(facts.index.ids),
        unreadable=reasons,
        index_sha256=facts.index.hash,
        duplicate_similarity=facts.duplicate,
        levels=levels(facts.times),
    )


def _prompts(facts: Facts) -> PromptFacts:
    ask, material = facts.request, facts.material
    sampled = [c.text for c in facts.captions]
    every = _every(facts)
    chosen = (
        "all of them"
        if len(sampled) == every
        else f"{len(sampled)} of {every}: the most duplicated first, within a level by a hash"
    )
    cut = sum(is_cut(facts.subject.model, prompt) for prompt in sampled)
    chosen += f"; {cut} longer than the model reads, so cut at their end" if cut else ""
    return PromptFacts(
        source=material.prompts_source,
        sha256=digest(sampled),
        captions=len(facts.known),
        sampled=len(sampled),
        chosen=chosen,
        draws=ask.draws,
        seed=ask.seed,
        ordinary=min(ask.ordinary, len(material.ordinary)),
        ordinary_source=material.ordinary_source,
        empty=ask.empty,
    )


def _search(facts: Facts) -> SearchFacts:
    settings: Any = facts.index.settings
    return SearchFacts(
        recipe=settings.recipe,
        fingerprint=settings.fingerprint,
        side=settings.side,
        exact=True,
        calibration=facts.calibration.to_dict(),
        controls=facts.calibration.controls,
        controls_source=facts.material.controls_source,
        positives=facts.positives,
        negative=facts.negative,
    )
