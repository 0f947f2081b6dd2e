"""From finished units to the records of a run: methods in their order, jobs in theirs.

A method is scored once all its units are there, from the pictures on the disk, so that scores do
not depend on who made them when. Its scored records and its trace have a done-mark of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.runs.generate import Method
from sidestep.runs.marks import holds, put, vouch
from sidestep.runs.records import Record, read, to_lines, write_atomic
from sidestep.runs.units import Unit, digest
from sidestep.sampling.trace import Trace
from sidestep.similarity.pixels import distance

Score = Callable[[list[Record], NDArray[np.uint8]], list[Record]]


def unscored(records: list[Record], images: NDArray[np.uint8]) -> list[Record]:
    """The records as they are."""
    return records


class Finished:
    """The finished units of a run; `records` holds the methods that are complete, in order.

    records.jsonl is written anew, whole, whenever a method more is complete.
    """

    def __init__(
        self, out: Path, methods: Sequence[Method], units: Sequence[Unit], score: Score
    ) -> None:
        """Nothing is finished yet; `units` are those of the whole run."""
        self.out, self.score = out, score
        self.waiting = [(how, [u for u in units if u.method is how]) for how in methods]
        self.plain = methods[0] if methods and methods[0].name == "constant" else None
        self.numbers: set[int] = set()
        self.records: list[Record] = []

    def add(self, units: Iterable[Unit]) -> None:
        """Take finished units in, and score what is complete by them."""
        self.numbers |= {unit.number for unit in units}
        before = len(self.waiting)
        while self.waiting and all(u.number in self.numbers for u in self.waiting[0][1]):
            self.records += self._scored(*self.waiting.pop(0))
        if len(self.waiting) < before:
            write_atomic(self.out / "records.jsonl", to_lines(self.records))

    def _scored(self, how: Method, units: list[Unit]) -> list[Record]:
        """The records of a method; scored now unless they are there."""
        done = digest([unit.id for unit in units])
        name = f"units/{done}"
        if not holds(self.out, f"{name}.json", done):
            rows = [r for unit in units for r in read(self.out / unit.records)]
            rows = self._changes(self.score(rows, self._pictures([r.image for r in rows])))
            trace = Trace.cat([Trace.load(self.out / unit.trace) for unit in units])
            files = [
                put(self.out, f"traces/{how.slug}.safetensors", trace.to_bytes()),
                put(self.out, f"{name}.jsonl", to_lines(rows).encode()),
            ]
            vouch(self.out, f"{name}.json", done, files)
        return read(self.out / f"{name}.jsonl")

    def _changes(self, rows: list[Record]) -> list[Record]:
        """The records with their distance to plain guidance's picture of the same job."""
        if self.plain is None:
            return rows
        result = []
        for row in rows:
            own = Path(row.image)
            plain = f"images/{self.plain.slug}/{own.name}"
            (apart,) = distance(self._pictures([row.image]), self._pictures([plain]))
            result.append(replace(row, change=float(apart)))
        return result

    def _pictures(self, names: Sequence[str]) -> NDArray[np.uint8]:
        return np.stack([np.asarray(Image.open(self.out / name)) for name in names])
