"""The prompts of an audit: captions of the training set, ordinary prompts, a file of one's own."""

import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.index import Index
from sidestep.audit.near_duplicates import LEVELS
from sidestep.errors import BadData
from sidestep.sources import text

MOST = 10**6  # prompts of a file
ORDINARY = "ordinary.txt"  # of this package
NAMES = ("prompt", "caption", "text")  # of a prompt in .jsonl and .csv


class Caption(NamedTuple):
    """A prompt, and the training pictures that have it as their caption."""

    text: str
    rows: tuple[int, ...]  # of the index
    times: int  # how often the most duplicated of them is in the set, 0 without pictures


def captions(index: Index, times: NDArray[np.int64]) -> list[Caption]:
    """Every different caption of the readable pictures, in the order in which they first come.

    `times` is (N,), how often each picture is in the set.
    """
    rows = dict[str, list[int]]()
    readable = (p for p in index.pictures() if p.status == "ok")
    for row, picture in enumerate(readable):
        if picture.caption and picture.caption.strip():
            rows.setdefault(picture.caption.strip(), []).append(row)
    return [Caption(t, tuple(own), int(times[own].max())) for t, own in rows.items()]


def choose(every: Sequence[Caption], most: int) -> list[Caption]:
    """At most that many captions, the most duplicated first.

    Duplication drives memorization, so levels are emptied from the highest down; within a level
    the order is that of a hash, which nobody chose.

    Raises ValueError unless most is at least 1.
    """
    if most < 1:
        raise ValueError(f"most is {most}; sample at least 1 caption")
    if len(every) <= most:
        return list(every)

    def order(one: Caption) -> tuple[int, str]:
        level = sum(one.times >= begin for begin in LEVELS)
        return -level, hashlib.sha256(one.text.encode()).hexdigest()

    return sorted(every, key=order)[:most]


def level_of(times: int) -> str:
    """The name of the level of duplication, as `near_duplicates.levels` has it."""
    starts = [n for n in LEVELS if n <= max(times, 1)]
    low = starts[-1]
    above = [n for n in LEVELS if n > low]
    if not above:
        return f"{low}+"
    return str(low) if above[0] == low + 1 else f"{low}-{above[0] - 1}"


def from_file(path: Path) -> list[str]:
    """The different prompts of a file: .txt one a line, .jsonl or .csv under one of NAMES.

    Raises BadData for another kind of file, one without prompts, or one of more than MOST.
    """
    kind = path.suffix.lower()
    if kind not in (".txt", ".jsonl", ".csv"):
        raise BadData(f"{path} is no .txt, .jsonl or .csv; give prompts as one of these")
    found = dict[str, None]()
    for prompt in _lines(path) if kind == ".txt" else _named(path, kind):
        found[prompt] = None
        if len(found) > MOST:
            raise BadData(f"{path} holds more than {MOST} prompts; split it")
    if not found:
        raise BadData(f"{path} holds no prompt; write one a line")
    return list(found)


def ordinary() -> list[str]:
    """Prompts of everyday things that no training set should have memorized."""
    with as_file(files(__package__) / ORDINARY) as path:
        return from_file(path)


def _lines(path: Path) -> Iterator[str]:
    return (line.strip() for _, line in text.lines(path) if line.strip())


def _named(path: Path, kind: str) -> Iterator[str]:
    rows = text.json_lines(path) if kind == ".jsonl" else text.rows(path, ",")
    for number, row in rows:
        name = next((n for n in NAMES if n in row), NAMES[0])
        yield text.cell(path, number, row, name).strip()


def is_cut(model: object, prompt: str) -> bool:
    """Whether the model reads the prompt in part; a model that counts no tokens reads it whole."""
    count, most = getattr(model, "count_tokens", None), getattr(model, "max_tokens", None)
    return count is not None and most is not None and count(prompt) > most


def digest(prompts: Sequence[str]) -> str:
    """SHA-256 of prompts, one a line."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()
