"""A run folder: the same jobs with several rules, pictures and records on the disk.

Records reach the disk after each rule, and a stopped run goes on with the first rule it had not
finished.
"""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.audit.records import OpenedBy, Record, append, salvage, to_lines, write_atomic
from sidestep.bench.generate import Batch, Job, Method, Model, Report, make, silent
from sidestep.errors import SidestepError
from sidestep.rng import image_seed


def opened_by(how: Method, transition: int, fell_back: bool) -> OpenedBy:
    """What turned guidance on for one sample."""
    if transition < 0:
        return "never"
    if fell_back:
        return "fallback"
    starts: dict[str, OpenedBy] = {"constant": "start", "static": "time", "interval": "time"}
    rule = how.settings.get("rule", {"name": how.name})  # a mitigation says which rule guided
    return starts.get(rule["name"], "signal")


def records(out: Path, jobs: Sequence[Job], how: Method, made: Batch, seed: int) -> list[Record]:
    """Write the pictures and the trace of one method; its unscored records."""
    (out / "images" / how.slug).mkdir(parents=True, exist_ok=True)
    (out / "traces").mkdir(exist_ok=True)
    made.trace.save(out / "traces" / f"{how.slug}.safetensors")
    rows = []
    for i, job in enumerate(jobs):
        name = f"images/{how.slug}/{i:04d}.png"
        Image.fromarray(made.images[i]).save(out / name)
        step = int(made.trace.transition[i])
        before = how.settings.get("before")
        rows.append(
            Record(
                rule=how.label,
                method=how.name,
                settings=how.settings,
                before=before if isinstance(before, int | float) else None,
                kind=job.kind,
                prompt=job.prompt,
                seed=image_seed(seed, job.prompt, job.draw),
                draw=job.draw,
                image=name,
                transition=step if step >= 0 else None,
                transition_time=float(made.trace.time[step]) if step >= 0 else None,
                opened_by=opened_by(how, step, bool(made.trace.fell_back[i])),
                nfe=int(made.trace.nfe[i]),
                seconds=made.seconds[i],
                nearest=None,
                nearest_image=None,
                similarity={},
                recipe=None,
                threshold=None,
                copy=None,
                agreement=None,
                spread=None,
            )
        )
    return rows


def settings_of_run(**more: Any) -> dict[str, Any]:
    """The header of a run: when, with what versions, and what the caller adds."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("sidestep", "torch", "diffusers", "transformers", "numpy", "onnxruntime"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["sidestep", *sys.argv[1:]]),
        "versions": versions,
        **more,
    }


def header_of(how: Method) -> dict[str, Any]:
    """A method as the run header lists it."""
    return {
        "rule": how.label,
        "method": how.name,
        "settings": how.settings,
        "slug": how.slug,
        "trace": f"traces/{how.slug}.safetensors",
    }


Score = Callable[[list[Record], NDArray[np.uint8]], list[Record]]


def unscored(records: list[Record], images: NDArray[np.uint8]) -> list[Record]:
    """The records as they are."""
    return records


def fill(
    out: Path,
    model: Model,
    jobs: Sequence[Job],
    rules: Sequence[Method],
    *,
    seed: int = 0,
    steps: int = 50,
    batch: int = 16,
    finer: int | None = None,
    score: Score = unscored,
    report: Report = silent,
    header: Mapping[str, Any] | None = None,
) -> list[Record]:
    """Every job with each rule into a run folder; the records, as `score` returns them.

    `header` is what the run header holds beyond settings, rules and versions. A stopped run of the
    same settings goes on where it stood: rules that were finished are kept. A run of other
    settings is replaced once the first rule's pictures are made, so that a run that is refused, or
    stopped before it has anything, destroys nothing.
    """
    settings = {"seed": seed, "steps": steps, "finer": finer, "batch": batch}
    about = settings_of_run(**settings, rules=[header_of(m) for m in rules], **(header or {}))
    file = out / "records.jsonl"
    rows = finished(out, about, jobs, rules, seed)
    if rows:
        write_atomic(file, to_lines(rows))
    kept = {r.rule for r in rows}
    for how in rules:
        if how.label in kept:
            report(how.label, len(jobs), len(jobs))
            continue
        made = make(
            model, jobs, how, seed=seed, steps=steps, batch=batch, finer=finer, report=report
        )
        if not rows:
            out.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            write_atomic(out / "run.json", json.dumps(about, indent=2))
        part = score(records(out, jobs, how, made, seed), made.images)
        append(file, part)
        rows += part
    return rows


# What may differ between a run and its continuation: these change no picture beyond rounding.
UNBOUND = ("created", "command", "batch")


def finished(
    out: Path, about: Mapping[str, Any], jobs: Sequence[Job], rules: Sequence[Method], seed: int
) -> list[Record]:
    """The records of the rules that a stopped run with the same header has finished, in order."""
    try:
        before = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    same = [{k: v for k, v in h.items() if k not in UNBOUND} for h in (before, about)]
    if json.dumps(same[0]) != json.dumps(same[1]):
        return []
    wanted = [(j.prompt, image_seed(seed, j.prompt, j.draw)) for j in jobs]
    left, rows = salvage(out / "records.jsonl"), list[Record]()
    for how in rules:
        part = [r for r in left if r.rule == how.label]
        if [(r.prompt, r.seed) for r in part] != wanted:
            break
        rows += part
    return rows


def run(
    model: Model,
    model_name: str,
    prompts: Sequence[str],
    rules: Sequence[Method],
    out: Path,
    *,
    draws: int = 1,
    **settings: Any,
) -> list[Record]:
    """Sample every prompt `draws` times with each rule into a run folder; unscored records.

    `settings` are those of `fill`. Raises SidestepError for no prompts, an empty prompt or no
    draws.
    """
    if not prompts or any(not p.strip() for p in prompts):
        raise SidestepError("a prompt is empty; give each picture a caption to show")
    if draws < 1:
        raise SidestepError(f"draws is {draws}; ask for at least one picture of each prompt")
    jobs = [Job(prompt, draw) for prompt in prompts for draw in range(draws)]
    return fill(out, model, jobs, rules, header={"model": {"name": model_name}}, **settings)
