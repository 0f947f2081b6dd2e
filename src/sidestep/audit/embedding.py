"""Pictures to rows of an index, unit by unit, in this process or elsewhere.

A unit is a fixed run of pictures in the order of their collection. It depends on the pictures and
never on who embeds it, and no batch and no shard begins inside of one, so an index has the same
bytes wherever its units were embedded and wherever a build was killed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from sidestep.audit.shards import Features
from sidestep.similarity.base import Images, Recipe
from sidestep.sources import decoders
from sidestep.sources.decoders import Look, Task, looks

UNIT = 256  # pictures
UNIT_BYTES = 64 * 2**20  # a unit ends with the picture that passes this

Unit = list[Task]


class How(NamedTuple):
    """What a row depends on beside the picture and the recipe."""

    side: int  # pixels of the centre square
    batch: int  # pictures embedded at once, within a unit


class Embedded(NamedTuple):
    """What came of a unit."""

    looks: list[Look]  # of every picture, without pixels
    features: Features  # (n, D) of those that were decoded, in their order


# Embeds units somewhere and gives what came of each, in their order.
Engine = Callable[[Recipe, How, Iterator[Unit]], Iterator[Embedded]]


def size(pictures_per_shard: int) -> int:
    """Pictures of a unit at most, of which a shard holds at least one."""
    return min(UNIT, pictures_per_shard)


def units(tasks: Iterator[Task], size: int) -> Iterator[Unit]:
    """Pictures cut into units of that size; of less where they are large and come as bytes."""
    return decoders.cut(tasks, size, UNIT_BYTES)


def here(workers: int | None = None) -> Engine:
    """An engine that embeds in this process.

    Args:
        workers: decoding processes; None = one for each core that this process may use.
    """

    def engine(recipe: Recipe, how: How, units: Iterator[Unit]) -> Iterator[Embedded]:
        lengths = deque[int]()  # of the units that are under way

        def tasks() -> Iterator[Task]:
            for unit in units:
                lengths.append(len(unit))
                yield from unit

        # One stream, so that the next unit is decoded while this one is embedded.
        seen = looks(tasks(), how.side, workers)
        for first in seen:
            rest = islice(seen, lengths.popleft() - 1)
            yield embedded(recipe, how.batch, chain([first], rest))

    return engine


def embedded(recipe: Recipe, batch: int, looks: Iterable[Look]) -> Embedded:
    """Embed what decoders saw of a unit; ValueError for values that are not finite."""
    seen, rows, waiting = list[Look](), list[Features](), list[Images]()
    for look in looks:
        if look.pixels is not None:
            waiting.append(look.pixels)
        seen.append(look._replace(pixels=None))
        if len(waiting) == batch:
            rows.append(_rows(recipe, waiting))
            waiting = []
    if waiting:
        rows.append(_rows(recipe, waiting))
    return Embedded(seen, np.concatenate(rows) if rows else np.empty((0, 0), np.float16))


def _rows(recipe: Recipe, images: list[Images]) -> Features:
    rows = recipe.embed(np.stack(images))
    if not np.isfinite(rows).all():
        raise ValueError(f"{recipe.name} gave values that are not finite")
    return rows.astype(np.float16)
