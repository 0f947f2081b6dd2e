"""Work units: a fixed range of the jobs of one method at one strength.

A unit depends on what is to be made, never on how: not on the batch size, the number of workers or
the machine. Its id is a hash of all that defines it, so that a finished unit can be told from one
of another run. Nothing heavy is imported here.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sidestep.errors import SidestepError

if TYPE_CHECKING:
    from sidestep.runs.generate import Job, Method

SIZE = 32  # images of a unit: what a kill loses at most, and the largest batch


@dataclass(frozen=True)
class Unit:
    """Jobs `first`, `first + 1`, ... of one method."""

    number: int  # place in the run: methods in their order, each with its jobs in theirs
    id: str  # 16 hexadecimal digits
    method: "Method"
    first: int
    jobs: "tuple[Job, ...]"

    @property
    def mark(self) -> str:
        """Its done-mark, relative to the run folder."""
        return f"units/{self.id}.json"

    @property
    def records(self) -> str:
        """Its unscored records, relative to the run folder."""
        return f"units/{self.id}.jsonl"

    @property
    def trace(self) -> str:
        """Its trace, relative to the run folder."""
        return f"units/{self.id}.safetensors"

    @property
    def images(self) -> list[str]:
        """Its pictures, relative to the run folder."""
        numbers = range(self.first, self.first + len(self.jobs))
        return [f"images/{self.method.slug}/{i:04d}.png" for i in numbers]


def units(
    jobs: "Sequence[Job]", methods: "Sequence[Method]", bound: Mapping[str, Any], size: int = SIZE
) -> list[Unit]:
    """The units of a run; `bound` is what else defines its pictures: model, seed, steps, versions.

    Raises SidestepError for methods that cannot be told apart in the run folder.
    """
    taken: dict[str, str] = {}
    for method in methods:
        if method.slug in taken:
            raise SidestepError(
                f"the methods {taken[method.slug]!r} and {method.label!r} would both write into "
                f"images/{method.slug}; give them labels that differ in letters or digits"
            )
        taken[method.slug] = method.label
    parts = [
        (method, first, tuple(jobs[first : first + size]))
        for method in methods
        for first in range(0, len(jobs), size)
    ]
    return [
        Unit(
            number,
            digest([bound, method.header, first, part]),
            method,
            first,
            part,
        )
        for number, (method, first, part) in enumerate(parts)
    ]


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Shard(NamedTuple):
    """Part `part` of `of` parts of a run: the units whose number leaves that remainder."""

    part: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `0/4` ... `3/4`; ValueError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not shard.part < shard.of:
            raise ValueError(
                f"{text!r} is no shard; write i/N with i from 0 to N - 1, such as 0/4 for the "
                "first of four"
            )
        return shard

    def take(self, every: Iterable[Unit]) -> list[Unit]:
        """The units of this part."""
        return [unit for unit in every if unit.number % self.of == self.part]
