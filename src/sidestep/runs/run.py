"""A run folder: the same jobs with several methods, pictures and records on the disk.

A run is cut into work units (`sidestep.runs.units`). An engine makes those that the folder lacks;
once all of a method are there, the method is scored. Killed anywhere and started again, a run ends
with the same records, and so it does in several processes or on several machines.
"""

import json
import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from sidestep.errors import SidestepError
from sidestep.runs.generate import Job, Method, Model, Report, sampler_of, silent
from sidestep.runs.header import bound, differences, settings_of_run
from sidestep.runs.marks import holds
from sidestep.runs.records import Record, write_atomic
from sidestep.runs.scored import Finished, Score, unscored
from sidestep.runs.units import Shard, Unit, units
from sidestep.runs.work import Engine, Settings, make_unit, serial

FACTS = ("fingerprint", "resolution")  # of a model that has them


class OtherRun(SidestepError):
    """A run folder holds a run of other settings, another model or other versions."""


def fill(
    out: Path,
    model: Model,
    jobs: Sequence[Job],
    methods: Sequence[Method],
    *,
    seed: int = 0,
    steps: int = 50,
    batch: int = 16,
    finer: int | None = None,
    score: Score = unscored,
    report: Report = silent,
    header: Mapping[str, Any] | None = None,
    engine: Engine = serial,
    shard: Shard = Shard(),  # noqa: B008 a tuple
    replace: bool = False,
) -> list[Record]:
    """Every job with each method into a run folder; the records, as `score` returns them.

    Args:
        out: the run folder; units that are finished in it are kept.
        model: what to sample from.
        jobs: the images to make, the same for each method.
        methods: the ways to guide. The first, if it is plain guidance, is what the others are
            compared with picture by picture.
        seed: of the run.
        steps: sampling steps.
        batch: images made at once, within a unit.
        finer: steps after the transition, see `sidestep.sampling.loop.sample`.
        score: fills in the scores of one method's records.
        report: told (method, images done, images in all).
        header: what the run header holds beyond settings, methods and versions.
        engine: where units are made.
        shard: which units to make. The folder is scored by whoever finds all units in it.
        replace: a run of other settings gives way once the first pictures of this one are made,
            so that a run that is refused, or stopped before it has anything, destroys nothing.

    Returns:
        The records of every method whose units are there, in the order of methods and jobs; of a
        shard, maybe none.

    Raises:
        OtherRun: the folder holds another run and `replace` is not set.
        SidestepError: two methods have the same name as a folder, or the batch is below 1.
    """
    settings = Settings(seed, steps, batch, finer)
    about = settings_of_run(
        **settings._asdict(), rules=[m.header for m in methods], **(header or {})
    )
    every = units(jobs, methods, {k: v for k, v in bound(about).items() if k != "rules"})
    other = differences(out, about)
    if other and not replace:
        raise OtherRun(_refusal(out, other))
    finished = Finished(out, methods, every, score)
    mine = shard.take(every)
    kept = [] if other else [u for u in mine if holds(out, u.mark, u.id)]
    if kept:
        _claim(out, about)
    finished.add(kept)
    left = [u for u in mine if u.number not in finished.numbers]
    watch = _Watch(mine, finished.numbers, report)
    if other and left:
        first, *left = left
        make_unit(model, out, first, settings, watch, lambda: _start_over(out, about))
        watch.finish(first)
        finished.add([first])
    for unit in engine(model, out, left, settings, watch):
        if not finished.numbers:
            _claim(out, about)
        watch.finish(unit)
        finished.add([unit])
    if shard.of > 1:  # by now others may have made theirs
        rest = (u for u in every if u.number not in finished.numbers)
        finished.add(u for u in rest if holds(out, u.mark, u.id))
    return finished.records


def _claim(out: Path, about: Mapping[str, Any]) -> None:
    """Write the header of a run that has its first unit, unless a run beside it was first."""
    if (out / "run.json").is_file():
        other = differences(out, about)
        if other:
            raise OtherRun(_refusal(out, other))
    else:
        write_atomic(out / "run.json", json.dumps(about, indent=2))


def _refusal(out: Path, other: Sequence[str]) -> str:
    return (
        f"{out} holds another run ({'; '.join(other)}), and the two must not be mixed. Give "
        "another folder, or delete this one"
    )


def _start_over(out: Path, about: Mapping[str, Any]) -> None:
    """Let the run of a folder give way to another."""
    (out / "records.jsonl").unlink(missing_ok=True)
    shutil.rmtree(out / "units", ignore_errors=True)
    write_atomic(out / "run.json", json.dumps(about, indent=2))


class _Watch:
    """Turns images of units into images of methods."""

    def __init__(self, mine: Sequence[Unit], finished: Set[int], report: Report) -> None:
        self.report = report
        self.totals: dict[str, int] = {}
        self.done: dict[str, int] = {}
        for unit in mine:
            label, images = unit.method.label, len(unit.jobs)
            self.totals[label] = self.totals.get(label, 0) + images
            self.done[label] = self.done.get(label, 0) + images * (unit.number in finished)
        for label, images in self.done.items():
            if images:
                report(label, images, self.totals[label])

    def __call__(self, unit: Unit, images: int) -> None:
        label = unit.method.label
        self.report(label, self.done[label] + images, self.totals[label])

    def finish(self, unit: Unit) -> None:
        self.done[unit.method.label] += len(unit.jobs)
        self(unit, 0)


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

    `settings` are those of `fill`; another run in the folder is replaced. Raises SidestepError for
    no prompts or no draws.
    """
    if not prompts:
        raise SidestepError('there is no prompt; give at least one, "" for no caption at all')
    if draws < 1:
        raise SidestepError(f"draws is {draws}; ask for at least one picture of each prompt")
    jobs = [Job(prompt, draw) for prompt in prompts for draw in range(draws)]
    about = {"name": model_name, "sampler": sampler_of(model)}
    # Other weights, precisions and sizes have the same name.
    about |= {fact: getattr(model, fact) for fact in FACTS if hasattr(model, fact)}
    header = {"model": about}
    return fill(out, model, jobs, rules, header=header, replace=True, **settings)
