"""Work units on Ray: on the cores or GPUs of this machine, or on a cluster that is already there.

Each worker gets the model once and writes into the run folder, which every machine of a cluster
must see under the same path.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sidestep.runs import cluster
from sidestep.runs.generate import Model
from sidestep.runs.units import Unit
from sidestep.runs.work import Engine, Settings, Watch, make_unit


def on_ray(workers: int) -> Engine:
    """An engine of that many workers, each with a core or, if the model is on one, a GPU.

    Where the variable RAY_ADDRESS names a cluster its machines are used, else this one. Raises
    MissingExtra without Ray, ValueError for fewer than one worker.
    """
    ray = cluster.load(workers)

    def engine(
        model: Model, out: Path, units: Sequence[Unit], settings: Settings, watch: Watch
    ) -> Iterator[Unit]:
        if not units:
            return
        with cluster.begun(ray, workers):
            yield from _make(ray, workers, model, out.resolve(), units, settings)

    return engine


class Worker:
    """Makes units in a process of its own."""

    def __init__(self, model: Model, out: Path, settings: Settings) -> None:
        self.model, self.out, self.settings = model, out, settings

    def make(self, unit: Unit) -> int:
        """Make a unit; its number."""
        make_unit(self.model, self.out, unit, self.settings)
        return unit.number


def _make(
    ray: Any, workers: int, model: Model, out: Path, units: Sequence[Unit], settings: Settings
) -> Iterator[Unit]:
    shared = cluster.share(ray, model, "the model")
    by_number = {unit.number: unit for unit in units}
    # No more workers than units: each of them takes the model into its memory.
    size, device = min(workers, len(units)), getattr(model, "device", None)
    with cluster.team(ray, Worker, size, shared, out, settings, device=device) as team:
        for number in cluster.spread(ray, team, _start, units):
            yield by_number[number]


def _start(worker: Any, unit: Unit) -> Any:
    return worker.make.remote(unit)
