"""Exact search on Ray: each worker searches some shards, and what they find is put together.

A unit is a fixed run of shards whatever the number of workers, and ties go to the earlier row, so
any number of workers gives the same bytes. An index of one unit is searched in this process: one
worker alone would search it, and takes seconds to start. Every machine of a cluster must see the
folder of the index under the same path.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidestep.audit.index import Engine, Index, here, open_index
from sidestep.audit.search import Numbers, merged, top
from sidestep.errors import BadRecords
from sidestep.runs import cluster
from sidestep.similarity.base import Vectors

SHARDS = 64  # of a unit; each begins without a similarity to beat, so few are better than many


class Unit(NamedTuple):
    """Some shards of an index."""

    part: slice
    first: int  # number of its first row
    rows: int


def on_ray(workers: int) -> Engine:
    """An engine for `Index.search` of that many workers, each with a thread.

    Where the variable RAY_ADDRESS names a cluster its machines are used, else this one. Raises
    MissingExtra without Ray, ValueError for fewer than one worker.
    """
    ray = cluster.load(workers)

    def search(index: Index, features: Vectors, k: int) -> tuple[Vectors, Numbers]:
        todo = units(index)
        if len(todo) == 1:
            return here(index, features, k)
        best = np.full((len(features), k), -np.inf, dtype=np.float32)
        numbers = np.full((len(features), k), -1, dtype=np.int64)
        with cluster.begun(ray, workers):
            shared = ray.put(np.ascontiguousarray(features, dtype=np.float32))
            given = (index.folder.resolve(), index.hash, shared, k)
            # Pictures that were made are searched for while those who made them keep their cores
            # and wait. So a search that kept cores too would never begin.
            with cluster.team(ray, Worker, min(workers, len(todo)), *given, cores=0) as team:
                for scores, rows in cluster.spread(ray, team, _start, todo):
                    query = np.repeat(np.arange(len(features)), scores.shape[1])
                    best, numbers = merged(best, numbers, query, scores.ravel(), rows.ravel())
        return best, numbers

    return search


def units(index: Index) -> list[Unit]:
    """The shards of an index in runs of SHARDS; runs without a row are left out."""
    starts = index.starts
    found = []
    for shard in range(0, len(starts) - 1, SHARDS):
        end = min(shard + SHARDS, len(starts) - 1)
        first, rows = int(starts[shard]), int(starts[end] - starts[shard])
        if rows:
            found.append(Unit(slice(shard, end), first, rows))
    return found


class Worker:
    """Searches units in a process of its own."""

    def __init__(self, folder: Path, sha256: str, features: Vectors, k: int) -> None:
        self.index, self.features, self.k = open_index(folder), features, k
        self.same = self.index.hash == sha256

    def search(self, unit: Unit) -> tuple[Vectors, Numbers]:
        """The best rows of a unit: similarities and numbers, (Q, k) or fewer where it has fewer."""
        if not self.same:
            raise BadRecords(
                f"{self.index.folder} is another index on a worker than where the search was "
                "begun; wait for the build that changes it, and give every machine the same folder"
            )
        rows = self.index.rows(unit.part)
        scores, numbers = top(self.features, rows, min(self.k, unit.rows))
        return scores, numbers + unit.first


def _start(worker: Any, unit: Unit) -> Any:
    return worker.search.remote(unit)
