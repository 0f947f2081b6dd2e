"""The demo: the embedded model copies under plain guidance, and the paper's rules stop it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sidestep.adapters.stable_diffusion import load
from sidestep.audit.records import Record, write_atomic
from sidestep.audit.summary import summarise
from sidestep.bench.generate import Job, Method, Report, method, silent
from sidestep.bench.run import fill
from sidestep.bench.score import Images, Labelled, Scorer
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.similarity import sscd
from sidestep.similarity.base import Recipe
from sidestep.similarity.pixels import Pixels

ORDINARY_FORMS = ("a {}", "a drawing of a {}")


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


def jobs(target_draws: int, ordinary: int) -> tuple[list[Job], list[str]]:
    """The images to make, and the concept each should show."""
    rows, concepts = [], []
    for target in pictures.targets():
        for draw in range(target_draws):
            rows.append(Job(target.caption, draw, "target"))
            concepts.append(target.concept)
    every = pictures.concepts()
    for i in range(ordinary):
        # Spread over the vocabulary, each caption once before any comes twice.
        concept = every[i * 7 % len(every)]
        rows.append(Job(ORDINARY_FORMS[i % 2].format(concept), i // len(every), "ordinary"))
        concepts.append(concept)
    return rows, concepts


def labelled(rows: Sequence[pictures.Picture]) -> Labelled:
    """Pictures as the scorer takes them."""
    images = np.stack([r.pixels for r in rows])
    return Labelled(images, [r.id for r in rows], [r.concept for r in rows])


def recipes() -> list[Recipe]:
    """Pixel correlation decides; SSCD, where it is installed, is reported beside it.

    At 64 pixels a different drawing of the same thing already reaches .7 under SSCD, so that its
    calibrated threshold lies above what the autoencoder leaves of a perfect copy; the pixels of
    the memorized scenes stay far apart from everything else.
    """
    pixels: list[Recipe] = [Pixels()]
    return [*pixels, sscd.SSCD()] if sscd.available() else pixels


def embedded_scorer(controls: int, report: Report = silent) -> Scorer:
    """The scorer of the embedded model, calibrated on that many pictures per held-out drawing."""
    return Scorer(
        labelled(pictures.training_pictures()),
        labelled(pictures.control_pictures(controls)),
        labelled(pictures.background_pictures()[::2]),  # half of them: every drawing is still there
        recipes(),
        report=report,
    )


def run_demo(
    out: Path, *, seed: int = 0, quick: bool = False, batch: int = 32, report: Report = silent
) -> dict[str, Any]:
    """Run the demo into `out`; returns what `summary.json` holds.

    Writes records.jsonl, summary.json, run.json, images/ and traces/. A run of the same settings,
    model and versions goes on where it was stopped.
    `quick` makes one draw of each target and a few ordinary prompts.
    """
    model = load(embedded.folder())
    every, concepts = jobs(1, 15) if quick else jobs(3, 60)
    scorer = embedded_scorer(controls=4, report=report)
    training = scorer.training
    missing = (
        "SSCD is not installed, so its numbers are missing. `sidestep doctor` prints the line "
    )
    header = {
        "model": {
            "name": "embedded",
            "folder": "sidestep/models/embedded/weights",
            "sha256": embedded.fingerprint(),
        },
        "scale": 7.5,
        "sampler": "DPM-Solver++ 2M",
        "notes": [] if sscd.available() else [missing + "that installs it."],
        "references": {
            training.ids[i]: {
                "image": show(out, training, training.ids[i]),
                "caption": target.caption,
            }
            for i, target in enumerate(pictures.targets())
        },
        **scorer.header(),
    }

    def score(rows: list[Record], images: Images) -> list[Record]:
        scored = scorer.score(rows, images, concepts)
        return [replace(r, nearest_image=show(out, training, str(r.nearest))) for r in scored]

    records = fill(
        out,
        model,
        every,
        methods(),
        seed=seed,
        batch=batch,
        score=score,
        report=report,
        header=header,
        replace=True,
    )
    summary = {"rules": summarise(records), **scorer.header(), "seed": seed}
    write_atomic(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def show(out: Path, training: Labelled, name: str) -> str:
    """Save a training picture into the run folder, once; its file, relative to the folder."""
    file = f"images/training/{name.replace('/', '-')}.png"
    if not (out / file).is_file():
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(training.images[training.ids.index(name)]).save(out / file)
    return file
