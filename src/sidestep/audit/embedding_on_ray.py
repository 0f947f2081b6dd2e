"""Embedding on Ray: each worker has the recipe and a decoder of its own and embeds units.

Pictures of a folder are read by the workers, so each machine of a cluster must see them under the
same path. Archives and tables are read where the build runs, which alone writes the index.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sidestep.audit.embedding import Embedded, Engine, How, Unit, embedded
from sidestep.errors import BadData
from sidestep.runs import cluster
from sidestep.similarity.base import Recipe
from sidestep.sources.decoders import Decoders
from sidestep.sources.pictures import Refused, content


def on_ray(workers: int) -> Engine:
    """An engine of that many workers, each with a core or, if the recipe is on one, a GPU.

    Where the variable RAY_ADDRESS names a cluster its machines are used, else this one. Raises
    MissingExtra without Ray, ValueError for fewer than one worker.
    """
    ray = cluster.load(workers)

    def engine(recipe: Recipe, how: How, units: Iterator[Unit]) -> Iterator[Embedded]:
        # No more workers than units: each of them takes the recipe into its memory.
        first = list(islice(units, workers))
        with cluster.begun(ray, workers):
            shared = cluster.share(ray, recipe, f"the recipe {recipe.name}")
            device = getattr(recipe, "device", None)
            with cluster.team(ray, Worker, len(first), shared, how, device=device) as team:
                yield from _in_order(ray, team, chain(first, units))

    return engine


class Worker:
    """Embeds units in a process of its own, with decoders that are as guarded as anywhere."""

    def __init__(self, recipe: Recipe, how: How) -> None:
        self.recipe, self.how, self.decoders = recipe, how, Decoders(1)

    def embed(self, number: int, unit: Unit) -> tuple[int, Embedded]:
        """What came of a unit, and its number."""
        looks = self.decoders.looks(iter(unit), self.how.side)
        return number, embedded(self.recipe, self.how.batch, looks)


def _in_order(ray: Any, team: list[Any], units: Iterator[Unit]) -> Iterator[Embedded]:
    """What came of each unit in the order of the units, whoever was first."""
    sent, made, turn = dict[int, Unit](), dict[int, Embedded](), 0

    def numbered() -> Iterator[tuple[int, Unit]]:
        for number, unit in enumerate(units):
            sent[number] = [task._replace(data=_found(task.data)) for task in unit]
            yield number, sent[number]

    for number, one in cluster.spread(ray, team, _start, numbered()):
        _check(sent.pop(number), one)
        made[number] = one
        while turn in made:
            yield made.pop(turn)
            turn += 1


def _start(worker: Any, numbered: tuple[int, Unit]) -> Any:
    return worker.embed.remote(*numbered)


def _found(data: Path | bytes | str) -> Path | bytes | str:
    # A worker may stand in another folder.
    return data.absolute() if isinstance(data, Path) else data


def _check(unit: Unit, made: Embedded) -> None:
    """Refuse (BadData) what a worker could not open and this process can.

    It would enter the index as unreadable, for no fault of the picture.
    """
    for task, look in zip(unit, made.looks, strict=True):
        if isinstance(task.data, Path) and not look.sha256:
            try:
                content(task.data)
            except Refused:
                continue
            raise BadData(
                f"{task.data} {look.reason} on a worker and can be opened here; every machine must "
                "see the pictures under the same path"
            )
