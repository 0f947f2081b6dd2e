"""Ray, begun and ended: on the cores or GPUs of this machine, or on a cluster that is there."""

import os
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


def spread(
    ray: Any, team: Sequence[Any], call: Callable[[Any, Any], Any], units: Iterable[Any]
) -> Iterator[Any]:
    """What each unit gives, as workers finish them; `call(worker, unit)` starts one.

    An error in a worker is raised as it was there; a worker that ended is a SidestepError.
    """
    try:
        yield from ray.util.ActorPool(team).map_unordered(call, units)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what went wrong in the worker, such as a full disk
    except ray.exceptions.RayActorError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise SidestepError(
            f"a Ray worker ended before its unit was done ({why}). Finished units are kept; if it "
            "was for want of memory, run again with fewer workers"
        ) from error
