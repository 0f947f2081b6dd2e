"""Search in an index beside bare FAISS and beside the memory: `python -m benchmarks.searching`.

All figures of a table are from one run, with rounds interleaved, and rows are an index on disk that
is read and checked as for a user. FAISS and the memory get float32 rows that are in memory already.
"""

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from sidestep.audit import shards
from sidestep.audit.approximate import WAYS, Approximate
from sidestep.audit.index import COMPLETE, SETTINGS, Index, Settings, open_index
from sidestep.audit.products import fastest
from sidestep.audit.recall import recall
from sidestep.audit.search import top
from sidestep.audit.shards import Picture
from sidestep.runs import marks

ROUNDS, WIDTH, SHARD, K = 3, 512, 4096, 10
SIZES = (10_000, 100_000, 1_000_000)
QUERIES = (1, 16, 2000)


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Seconds of each call in each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def ratio(of: list[float], to: list[float]) -> float:
    """How many times faster the first is: the median over rounds."""
    return median(b / a for a, b in zip(of, to, strict=True))


def unit(count: int, seed: int) -> np.ndarray:
    """Rows spread evenly over the sphere: what a copy descriptor aims at, and hard to prune."""
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def index_of(rows: np.ndarray, out: Path) -> Index:
    """An index of these rows."""
    settings = Settings("rows", "", 1, WIDTH, SHARD)
    marks.put(out, SETTINGS, settings.text.encode())
    files = []
    for number, first in enumerate(range(0, len(rows), SHARD)):
        part = rows[first : first + SHARD].astype(np.float16)
        facts = [
            Picture(f"{first + i:024}", f"{first + i}.png", "", 0, "ok", "", None)
            for i in range(len(part))
        ]
        shard = shards.write(out, settings.id, number, facts, part)
        files.append(marks.file(out, shard.mark))
    marks.vouch(out, COMPLETE, settings.id, files)
    return open_index(out)


def exact(rows: np.ndarray, index: Index) -> Table:
    """Exact search of an index on disk, of its shards in memory, FAISS and the memory."""
    table = Table(
        *("queries", "way", "s", "GB/s of float32 rows", "/ FAISS", "/ reading the rows"),
        title=f"{len(rows)} rows of {WIDTH}, k = {K}, {faiss.omp_get_max_threads()} thread(s)",
    )
    blocks, metric = list(index.rows()), faiss.METRIC_INNER_PRODUCT
    for count in QUERIES:
        queries = rows[:count].copy()
        calls: dict[str, Callable[[], Any]] = {
            "numpy sum of the rows": lambda: rows.sum(),
            "faiss.knn, in memory": lambda q=queries: faiss.knn(q, rows, K, metric=metric),  # type: ignore[misc]
            "exact, shards in memory": lambda q=queries: top(q, blocks, K),  # type: ignore[misc]
            "exact, from disk, checked": lambda q=queries: top(q, index.rows(), K),  # type: ignore[misc]
        }
        times = interleaved(calls)
        for name, of in times.items():
            table.add_row(
                str(count),
                f"{name} ({str(fastest(count))[6:]})" if name.startswith("exact") else name,
                f"{median(of):.3f}",
                f"{rows.nbytes / median(of) / 1e9:.1f}",
                f"{ratio(of, times['faiss.knn, in memory']):.2f}",
                f"{ratio(of, times['numpy sum of the rows']):.3f}",
            )
    return table


def growing(rows: np.ndarray, folder: Path) -> Table:
    """What each way costs as the index grows, and how much the approximate ones find."""
    table = Table(
        *("rows", "way", "made in s", "16 queries, s", "2000, s", "/ exact", "recall at .5 to .95"),
        title="Cost as the index grows, from disk; recall on 100 planted copies at each cosine",
    )
    for size in SIZES:
        index = index_of(rows[:size], folder / str(size))
        searches: dict[str, Callable[[np.ndarray], Any]] = {
            "exact": lambda q, i=index: top(q, i.rows(), K)  # type: ignore[misc]
        }
        made, found = {"exact": 0.0}, {"exact": "1 by definition"}
        for way in WAYS:
            start = time.perf_counter()
            approximate = Approximate.of(index, way)
            made[way] = time.perf_counter() - start
            searches[way] = lambda q, a=approximate: a._ranked(q, K)  # type: ignore[misc]
            levels = recall(index, lambda q, s=searches[way]: s(q)[1])  # type: ignore[misc]
            found[way] = " ".join(f"{level.found / level.of:.2f}" for level in levels)
        few = interleaved({n: lambda s=s: s(rows[:16]) for n, s in searches.items()})  # type: ignore[misc]
        many = interleaved({n: lambda s=s: s(rows[:2000]) for n, s in searches.items()}, 1)  # type: ignore[misc]
        for way in searches:
            table.add_row(
                *(str(size), way, f"{made[way]:.1f}", f"{median(few[way]):.3f}"),
                *(f"{median(many[way]):.2f}", f"{ratio(many[way], many['exact']):.2f}", found[way]),
            )
    return table


def workers(index: Index) -> Table:
    """Two Ray workers against one and against this process, Ray begun before."""
    import ray

    from sidestep.audit.on_ray import on_ray

    queries = unit(2000, 1)
    ray.init(log_to_driver=False, configure_logging=False, num_cpus=2, include_dashboard=False)
    try:
        times = interleaved(
            {
                "this process": lambda: index.search(queries, K),
                "1 worker": lambda: index.search(queries, K, on_ray(1)),
                "2 workers": lambda: index.search(queries, K, on_ray(2)),
            }
        )
    finally:
        ray.shutdown()
    table = Table(
        *("way", "s", "speed / 1 worker"), title=f"2000 queries in {len(index.ids)} rows, on Ray"
    )
    for name, of in times.items():
        table.add_row(name, f"{median(of):.2f}", f"{ratio(of, times['1 worker']):.2f}")
    return table


def main() -> None:
    """Run all and print as it goes: about 8 GB of memory and 2 GB of disk."""
    console, rows = Console(), unit(max(SIZES), 0)
    with tempfile.TemporaryDirectory() as name:
        index = index_of(rows, Path(name, "all"))
        console.print(exact(rows, index))
        if find_spec("ray"):
            console.print(workers(index))
        console.print(growing(rows, Path(name)))


if __name__ == "__main__":
    main()
