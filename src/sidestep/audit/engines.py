"""Where the work of an audit is done: pictures made, embedded and searched for."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from sidestep.audit import embedding, index
from sidestep.runs import work


@dataclass(frozen=True)
class Engines:
    """One place for all three; the default is this process. The bytes are the same anywhere."""

    make: work.Engine = work.serial
    embed: embedding.Engine = field(default_factory=embedding.here)
    search: index.Engine = index.here
    # Holds what the engines share, from the first piece of work to the last.
    begun: Callable[[], AbstractContextManager[None]] = nullcontext


def on_ray(workers: int) -> Engines:
    """All three on Ray, which is started once.

    Raises MissingExtra without Ray, ValueError for fewer than one worker.
    """
    from sidestep.audit import embedding_on_ray
    from sidestep.audit import on_ray as search_on_ray
    from sidestep.runs import cluster
    from sidestep.runs import on_ray as make_on_ray

    ray = cluster.load(workers)
    return Engines(
        make_on_ray.on_ray(workers),
        embedding_on_ray.on_ray(workers),
        search_on_ray.on_ray(workers),
        lambda: cluster.begun(ray, workers),
    )
