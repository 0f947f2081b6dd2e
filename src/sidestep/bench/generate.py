"""Generate pictures with several rules from the same seeds, and leave a run folder.

The unit of work is one batch; every image depends on its own prompt and seed alone, so the batch
size changes nothing but rounding. Records reach the disk after each rule, and a stopped run goes on
with the first rule it had not finished.
"""

import json
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sidestep import registry
from sidestep.audit.records import (
    Kind,
    OpenedBy,
    Record,
    append,
    salvage,
    to_lines,
    write_atomic,
)
from sidestep.errors import SidestepError
from sidestep.guidance.base import Rule
from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.rng import image_seed, noise
from sidestep.sampling.loop import Denoiser, Sample, sample
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.probe import probe_and_sample
from sidestep.sampling.trace import Trace

Report = Callable[[str, int, int], None]


def silent(task: str, done: int, total: int) -> None:
    """A report nobody reads."""


class Model(Protocol):
    """What generating needs of a text-to-image model."""

    schedule: NoiseSchedule

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        ...

    def denoiser(self, prompts: Sequence[str]) -> Denoiser:
        """The network with one prompt per sample."""
        ...

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Clean latents to pictures (B, H, W, 3)."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to guide under the label it has in tables."""

    label: str
    name: str  # its name in the registry
    settings: dict[str, Any]
    rule: Rule[Any] | None  # None for the two-pass probe

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")

    def sample(
        self,
        denoiser: Denoiser,
        x: Tensor,
        schedule: NoiseSchedule,
        steps: int,
        finer: int | None,
    ) -> Sample:
        """Sample one batch from first noise."""
        if self.rule is None:
            return probe_and_sample(
                denoiser, x, schedule, steps=steps, finer=finer, **self.settings
            )
        return sample(denoiser, x, self.rule, schedule, steps=steps, finer=finer)


PROBE_SETTINGS = {"before": -DEFAULT_SCALE, "after": DEFAULT_SCALE}


def method(name: str, label: str | None = None, **settings: Any) -> Method:
    """The method of a registry name; raises SidestepError for a setting it does not have."""
    entry = registry.get(name, *registry.GUIDES)
    if name == "probe":
        known, defaults = set(PROBE_SETTINGS), dict(PROBE_SETTINGS)
    else:
        known, defaults = {f.name for f in fields(entry.load())}, {}  # type: ignore[arg-type]
    unknown = sorted(set(settings) - known)
    if unknown:
        raise SidestepError(
            f"the rule {name} has no setting {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known))}"
        )
    settings = defaults | settings
    # A record says the number, also where the rule leaves its scale to the loop.
    rule = None if name == "probe" else entry.load()(**settings).with_scale(DEFAULT_SCALE)
    if is_dataclass(rule) and not isinstance(rule, type):
        settings = asdict(rule)
    shown = label or " ".join([name, *(f"{k}={v}" for k, v in settings.items())])
    return Method(shown, name, settings, rule)


class Job(NamedTuple):
    """One image to make."""

    prompt: str
    draw: int
    kind: Kind = "other"


class Batch(NamedTuple):
    """What one method made of all jobs: pictures (N, H, W, 3), the trace, seconds per image."""

    images: NDArray[np.uint8]
    trace: Trace
    seconds: list[float]


def make(
    model: Model,
    jobs: Sequence[Job],
    how: Method,
    *,
    seed: int = 0,
    steps: int = 50,
    batch: int = 16,
    finer: int | None = None,
    report: Report = silent,
) -> Batch:
    """Every job through one method."""
    if batch < 1:
        raise SidestepError(f"batch is {batch}; give a batch size of at least 1")
    images, traces, seconds = [], [], []
    for first in range(0, len(jobs), batch):
        part = jobs[first : first + batch]
        start = time.perf_counter()
        x = noise([image_seed(seed, j.prompt, j.draw) for j in part], model.latent_shape)
        device = getattr(model, "device", x.device)
        denoiser = model.denoiser([j.prompt for j in part])
        made = how.sample(denoiser, x.to(device), model.schedule, steps, finer)
        images.append(model.decode(made.latents))
        traces.append(made.trace)
        seconds += [(time.perf_counter() - start) / len(part)] * len(part)
        report(how.label, first + len(part), len(jobs))
    return Batch(np.concatenate(images), Trace.cat(traces), seconds)


def opened_by(how: Method, transition: int, fell_back: bool) -> OpenedBy:
    """What turned guidance on for one sample."""
    if transition < 0:
        return "never"
    if fell_back:
        return "fallback"
    starts: dict[str, OpenedBy] = {"constant": "start", "static": "time"}
    return starts.get(how.name, "signal")


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
