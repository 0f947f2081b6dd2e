"""Work units on Ray: on the cores or GPUs of this machine, or on a cluster that is already there.

Each worker gets the model once and writes into the run folder, which every machine of a cluster
must see under the same path.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sidestep.errors import MissingExtra, SidestepError
from sidestep.runs.generate import Model
from sidestep.runs.units import Unit
from sidestep.runs.work import Engine, Settings, Watch, make_unit

INSTALL = "Install it with: pip install 'sidestep[ray]'"


def on_ray(workers: int) -> Engine:
    """An engine of that many workers, each with a core or, if the model is on one, a GPU.

    Where the variable RAY_ADDRESS names a cluster its machines are used, else this one. Raises
    MissingExtra without Ray, ValueError for fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a run needs at least 1")
    ray = _ray()

    def engine(
        model: Model, out: Path, units: Sequence[Unit], settings: Settings, watch: Watch
    ) -> Iterator[Unit]:
        if not units:
            return
        begun = _begin(ray, workers)
        try:
            yield from _make(ray, workers, model, out.resolve(), units, settings)
        finally:
            if begun:
                ray.shutdown()

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
    gpu = getattr(getattr(model, "device", None), "type", "cpu") == "cuda"
    try:
        shared = ray.put(model)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise SidestepError(
            f"the model cannot be sent to other processes ({error}); run without --engine ray"
        ) from error
    remote = ray.remote(num_cpus=1, num_gpus=int(gpu))(Worker)
    # No more workers than units: each of them takes the model into its memory.
    team = [remote.remote(shared, out, settings) for _ in range(min(workers, len(units)))]
    pool = ray.util.ActorPool(team)
    by_number = {unit.number: unit for unit in units}
    try:
        for number in pool.map_unordered(lambda worker, unit: worker.make.remote(unit), units):
            yield by_number[number]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what went wrong in the worker, such as a full disk
    except ray.exceptions.RayActorError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise SidestepError(
            f"a Ray worker ended before its unit was done ({why}). Finished units are kept; if it "
            "was for want of memory, run again with fewer workers"
        ) from error


def _begin(ray: Any, workers: int) -> bool:
    """Connect to Ray, starting it where there is no cluster; whether it is ours to shut down."""
    if ray.is_initialized():
        return False
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, configure_logging=False, **local)
    return True


def _ray() -> Any:
    # Ray tells its makers about its use unless it is asked not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util  # ActorPool
    except ImportError as error:
        raise MissingExtra("ray", INSTALL, "the engine ray") from error
    return ray
