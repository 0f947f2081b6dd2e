"""Ray, begun and ended: on the cores or GPUs of this machine, or on a cluster that is there."""

import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sidestep.errors import MissingExtra, SidestepError

INSTALL = "Install it with: pip install 'sidestep[ray]'"


def load(workers: int) -> Any:
    """The package ray; MissingExtra without it, ValueError for fewer than one worker."""
    if workers < 1:
        raise ValueError(f"workers is {workers}; a run needs at least 1")
    # Ray tells its makers about its use unless it is asked not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util  # ActorPool
    except ImportError as error:
        raise MissingExtra("ray", INSTALL, "the engine ray") from error
    return ray


@contextmanager
def begun(ray: Any, workers: int) -> Iterator[None]:
    """Connected to Ray, which is started where there is no cluster and then ended too."""
    if ray.is_initialized():
        yield
        return
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, configure_logging=False, **local)
    try:
        yield
    finally:
        ray.shutdown()


def share(ray: Any, value: Any, name: str) -> Any:
    """What workers get once, such as a model; SidestepError if it is bound to this process."""
    try:
        return ray.put(value)
    except (TypeError, AttributeError, pickle.PickleError) as error:
        raise SidestepError(
            f"{name} cannot be sent to other processes ({error}); run without --engine ray"
        ) from error


@contextmanager
def team(
    ray: Any, worker: type, size: int, *given: Any, cores: int = 1, device: object = None
) -> Iterator[list[Any]]:
    """So many workers, each a process that keeps that many cores and, on a GPU as device, a GPU.

    They end with the block and not when nobody knows them any more: the next team needs the cores.
    """
    gpu = getattr(device, "type", "cpu") == "cuda"
    keeps = {"num_cpus": cores, "num_gpus": int(gpu), "scheduling_strategy": "SPREAD"}
    remote = ray.remote(**keeps)(worker)
    members = [remote.remote(*given) for _ in range(size)]
    try:
        yield members
    finally:
        for one in members:
            ray.kill(one)


def spread(
    ray: Any, team: Sequence[Any], call: Callable[[Any, Any], Any], units: Iterable[Any]
) -> Iterator[Any]:
    """What each unit gives, as workers finish them; `call(worker, unit)` starts one.

    A unit is taken once a worker is free for it, so there may be more than memory holds. An error
    in a worker is raised as it was there; a worker that ended is a SidestepError.
    """
    pool = ray.util.ActorPool(team)
    try:
        for unit in units:
            if not pool.has_free():
                yield pool.get_next_unordered()
            pool.submit(call, unit)
        while pool.has_next():
            yield pool.get_next_unordered()
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what went wrong in the worker, such as a full disk
    except ray.exceptions.RayActorError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise SidestepError(
            f"a Ray worker ended before its unit was done ({why}). Finished units are kept; if it "
            "was for want of memory, run again with fewer workers"
        ) from error
