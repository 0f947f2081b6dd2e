"""The demo: the embedded model copies under plain guidance, and the paper's rules stop it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sidestep.adapters.stable_diffusion import load
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.runs.generate import Job, Method, Report, method, silent
from sidestep.runs.marks import put
from sidestep.runs.records import Record, write_atomic
from sidestep.runs.run import fill
from sidestep.runs.score import Asked, Images, Scorer, calibrations, ceiling, embed
from sidestep.runs.scored import Score
from sidestep.runs.summary import summarise
from sidestep.runs.work import png
from sidestep.similarity import sscd
from sidestep.similarity.agreement import Prototypes, features
from sidestep.similarity.base import Recipe
from sidestep.similarity.pixels import Pixels

ORDINARY_FORMS = ("a {}", "a drawing of a {}")
WITHOUT_SSCD = (
    "SSCD is not installed, so its numbers are missing. `sidestep doctor` prints the line that "
    "installs it."
)


def methods() -> list[Method]:
    """Plain guidance and the paper's rules; their times were chosen on seeds of other runs."""
    paper: dict[str, Any] = {"drop": 0.0, "earliest": 1.0, "latest": 0.0, "fallback": None}
    return [
        method("constant", "plain"),
        method("static", "static", time=0.7, before=0.0),
        method("static", "static, opposite", time=0.85, before=-1.5),
        method("dynamic", "dynamic to the letter", before=0.0, **paper),
        method("dynamic", "dynamic", before=0.0),
        # Opposite guidance leaves the basin sooner, so guidance may come on sooner.
        method("dynamic", "dynamic, opposite", before=-2.0, earliest=0.85, fallback=0.75),
    ]


def jobs(
    target_draws: int, ordinary: int, ordinary_draws: int = 1, *, targets: int | None = None
) -> list[Job]:
    """The images to make: target captions, and ordinary captions over the vocabulary.

    `targets` is how many of the target captions, from the first on; all if None.
    """
    rows = [
        Job(target.caption, draw, "target")
        for target in pictures.targets()[:targets]
        for draw in range(target_draws)
    ]
    every = pictures.concepts()
    for i in range(ordinary):
        # Spread over the vocabulary; each caption once before any comes with its next draws.
        caption = ORDINARY_FORMS[i % 2].format(every[i * 7 % len(every)])
        first = i // len(every) * ordinary_draws
        rows += [Job(caption, first + draw, "ordinary") for draw in range(ordinary_draws)]
    return rows


def asked() -> dict[str, Asked]:
    """What each caption should show; a target's own training picture is the reference of its row.

    Training pictures begin with the targets, see `pictures.training_pictures`.
    """
    ordinary = {
        form.format(concept): Asked(concept=concept)
        for form in ORDINARY_FORMS
        for concept in pictures.concepts()
    }
    targets = {
        target.caption: Asked((row,), target.concept, "verbatim")
        for row, target in enumerate(pictures.targets())
    }
    return ordinary | targets


def recipes() -> list[Recipe]:
    """Pixel correlation decides; SSCD, where it is installed, is reported beside it.

    At 64 pixels a different drawing of the same thing already reaches .7 under SSCD, so that its
    calibrated threshold lies above what the autoencoder leaves of a perfect copy; the pixels of
    the memorized scenes stay far apart from everything else.
    """
    pixels: list[Recipe] = [Pixels()]
    return [*pixels, sscd.SSCD()] if sscd.available() else pixels


def embedded_scorer(
    controls: int, recipes: Sequence[Recipe], report: Report = silent
) -> tuple[Scorer, dict[str, Any]]:
    """The scorer of the embedded model, and what a run header says of it.

    The first recipe decides; its threshold lets one in a hundred pictures of held-out drawings
    pass, of which there are `controls` each. Agreement is measured against half of the background
    pictures: every drawing is among them.
    """
    training = pictures.training_pictures()
    references = embed(recipes, ((p.id, p.pixels) for p in training), len(training), report)
    held_out = pictures.control_pictures(controls)
    control = np.stack([p.pixels for p in held_out])
    found = calibrations(references, control, rate=0.01)
    report("caption prototypes", 0, 1)
    known = prototypes()
    about = {
        "calibration": [c.to_dict() for c in found],
        "agreement_ceiling": ceiling(known, control, [p.concept for p in held_out]),
    }
    report("caption prototypes", 1, 1)
    return Scorer(references, found[0].threshold, asked(), known), about


def prototypes() -> Prototypes:
    """What each concept looks like, from half of the background pictures: every drawing is in."""
    typical = pictures.background_pictures()[::2]
    return Prototypes(features(np.stack([p.pixels for p in typical])), [p.concept for p in typical])


def run_demo(
    out: Path, *, seed: int = 0, quick: bool = False, batch: int = 32, report: Report = silent
) -> dict[str, Any]:
    """Run the demo into `out`; returns what `summary.json` holds.

    Writes records.jsonl, summary.json, run.json, images/ and traces/. A run of the same settings,
    model and versions goes on where it was stopped.
    `quick` makes one draw of each target and a few ordinary prompts.
    """
    model = load(embedded.folder())
    every = jobs(1, 15) if quick else jobs(3, 60)
    scorer, about = embedded_scorer(4, recipes(), report)
    training = {p.id: p.pixels for p in pictures.training_pictures()}
    header = {
        "model": about_model(),
        "scale": 7.5,
        "sampler": "DPM-Solver++ 2M",
        "notes": [] if sscd.available() else [WITHOUT_SSCD],
        "references": {
            target.id: {"image": show(out, training, target.id), "caption": target.caption}
            for target in pictures.target_pictures()
        },
        **about,
    }

    records = fill(
        out,
        model,
        every,
        methods(),
        seed=seed,
        batch=batch,
        score=showing(scorer, training, out),
        report=report,
        header=header,
        replace=True,
    )
    summary = {"rules": summarise(records), **about, "seed": seed}
    write_atomic(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def about_model() -> dict[str, str]:
    """The embedded model as a run header names it."""
    return {
        "name": "embedded",
        "folder": "sidestep/models/embedded/weights",
        "sha256": embedded.fingerprint(),
    }


def showing(score: Score, training: Mapping[str, Images], out: Path) -> Score:
    """A score whose records also name a file that shows the nearest training picture.

    Only pictures in `training` are saved, so none where there are none.
    """

    def shown(rows: list[Record], images: Images) -> list[Record]:
        return [
            r
            if r.nearest is None or r.nearest not in training
            else replace(r, nearest_image=show(out, training, r.nearest))
            for r in score(rows, images)
        ]

    return shown


def show(out: Path, training: Mapping[str, Images], name: str) -> str:
    """Save a training picture into the run folder, once; its file, relative to the folder."""
    file = f"images/training/{name.replace('/', '-')}.png"
    if not (out / file).is_file():
        put(out, file, png(training[name]))
    return file
