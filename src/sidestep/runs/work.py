"""Make one work unit: its pictures, trace and unscored records on the disk, vouched for by a mark.

The one function that every engine runs, in this process or on another machine.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from sidestep.rng import image_seed
from sidestep.runs.generate import Batch, Method, Model, make
from sidestep.runs.marks import put, vouch
from sidestep.runs.records import OpenedBy, Record, to_lines
from sidestep.runs.units import Unit


class Settings(NamedTuple):
    """How the units of a run are made."""

    seed: int = 0
    steps: int = 50
    batch: int = 16  # images at once, within a unit
    finer: int | None = None


# Told how many images of a unit there are by now.
Watch = Callable[[Unit, int], None]
# Makes units somewhere and yields each once its files are on the disk, in any order.
Engine = Callable[[Model, Path, Sequence[Unit], Settings, Watch], Iterator[Unit]]


def serial(
    model: Model, out: Path, units: Sequence[Unit], settings: Settings, watch: Watch
) -> Iterator[Unit]:
    """One unit after the other in this process."""
    for unit in units:
        make_unit(model, out, unit, settings, watch)
        yield unit


def make_unit(
    model: Model,
    out: Path,
    unit: Unit,
    settings: Settings,
    watch: Watch = lambda unit, done: None,
    before_writing: Callable[[], None] = lambda: None,
) -> None:
    """Make a unit and leave its files in the run folder, the mark last."""
    device = getattr(model, "device", torch.device("cpu"))
    with Memory(device) as memory:
        made = make(
            model,
            unit.jobs,
            unit.method,
            report=lambda _, done, total: watch(unit, done),
            **settings._asdict(),
        )
    rows = records(unit, made, settings.seed, memory.peak)
    before_writing()
    files = [
        put(out, name, png(image)) for name, image in zip(unit.images, made.images, strict=True)
    ]
    files.append(put(out, unit.trace, made.trace.to_bytes()))
    files.append(put(out, unit.records, to_lines(rows).encode()))
    vouch(out, unit.mark, unit.id, files)


def records(unit: Unit, made: Batch, seed: int, memory: int | None) -> list[Record]:
    """The unscored records of a unit."""
    how, trace = unit.method, made.trace
    before = how.settings.get("before")
    rows = []
    for i, (job, image) in enumerate(zip(unit.jobs, unit.images, strict=True)):
        step = int(trace.transition[i])
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
                image=image,
                transition=step if step >= 0 else None,
                transition_time=float(trace.time[step]) if step >= 0 else None,
                opened_by=opened_by(how, step, bool(trace.fell_back[i])),
                nfe=int(trace.nfe[i]),
                seconds=made.seconds[i],
                nearest=None,
                nearest_image=None,
                similarity={},
                recipe=None,
                threshold=None,
                copy=None,
                agreement=None,
                spread=None,
                curve=how.curve,
                strength=how.strength,
                reached=made.reached[i],
                backward=made.backward[i],
                memory=memory,
            )
        )
    return rows


def opened_by(how: Method, transition: int, fell_back: bool) -> OpenedBy:
    """What turned guidance on for one sample."""
    if transition < 0:
        return "never"
    if fell_back:
        return "fallback"
    starts: dict[str, OpenedBy] = {"constant": "start", "static": "time", "interval": "time"}
    rule = how.settings.get("rule", {"name": how.name})  # a mitigation says which rule guided
    return starts.get(rule["name"], "signal")


def png(image: Any) -> bytes:
    """A picture (H, W, 3) uint8 as the bytes of a PNG file."""
    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "PNG")
    return memory.getvalue()


class Memory:
    """Measures the highest GPU memory inside a `with` block: `peak` in bytes, None on a CPU.

    PyTorch counts what it allocates on a GPU. For a CPU nobody does: the operating system only
    knows the highest point of the whole process, model and scorer included, which never falls.
    """

    peak: int | None = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Memory":
        """Start anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        """Read the highest point."""
        if self.device.type == "cuda":
            self.peak = int(torch.cuda.max_memory_allocated(self.device))
