"""Records: one JSON line per generated image. Runs write them, reports read nothing else.

A run folder holds `run.json` (settings, versions, calibration), `records.jsonl`, `images/` (PNG
files named by the records), `traces/` (one safetensors file per rule) and `units/` (what each work
unit left, with its done-mark).
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sidestep.errors import BadRecords
from sidestep.files import write

Kind = Literal["target", "ordinary", "other"]
OpenedBy = Literal["start", "time", "signal", "fallback", "never"]
Form = Literal["verbatim", "template"]  # the whole training image comes back, or its layout only


@dataclass(frozen=True)
class Record:
    """One generated image. Times are diffusion times in [0, 1], 1 = noise."""

    rule: str  # the row of the tables, such as "dynamic, opposite"
    method: str  # registry name: constant, static, dynamic, random-words, ...
    settings: dict[str, Any]  # the rule's fields
    before: float | None  # scale before the transition; None for a rule without one
    kind: Kind
    prompt: str
    seed: int  # of the first noise, see rng.image_seed
    draw: int  # number of the image among those of its prompt and rule
    image: str  # file, relative to the run folder
    transition: int | None  # step at which guidance came on, None = never
    transition_time: float | None
    opened_by: OpenedBy
    nfe: int  # network evaluations made for this image
    seconds: float  # wall time of its batch divided by the batch size
    nearest: str | None  # id of the nearest training image under `recipe`
    nearest_image: str | None  # a file that shows it, relative to the run folder
    similarity: dict[str, float]  # by recipe, to the nearest training image under that recipe
    recipe: str | None  # the recipe that decides
    threshold: float | None  # of that recipe: above it a picture is a copy
    copy: bool | None
    agreement: int | None  # place of the prompt's concept among all concepts, 1 = best
    spread: float | None  # mean dissimilarity to the other draws of its prompt and rule
    change: float | None = None  # pixel distance to plain guidance's picture of the same seed
    curve: str | None = None  # what the strengths of its method share
    strength: float | None = None
    reached: bool = True  # every mitigation met its target before the first step
    backward: int = 0  # passes backward through the network; each costs about two evaluations
    memory: int | None = None  # highest bytes of GPU memory while its unit was made; None on a CPU
    form: Form | None = None  # how lists of memorized prompts class the prompt; None = in none
    # By recipe, to the closest of the prompt's own training images; None where they are not known.
    own: dict[str, float] | None = None
    text: dict[str, float] = field(default_factory=dict)  # by recipe, how well it fits its prompt


def unmeasured(record: Record) -> Record:
    """The record without seconds and memory, which a machine measures: equal for equal runs."""
    return replace(record, seconds=0.0, memory=None)


def of_kind(records: Iterable[Record], kind: Kind) -> list[Record]:
    """The records of the prompts of one kind."""
    return [r for r in records if r.kind == kind]


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file and flush them to the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_lines(records))
        file.flush()
        os.fsync(file.fileno())


def to_lines(records: Iterable[Record]) -> str:
    """The text of a records file: one JSON object per line."""
    rows = (json.dumps(asdict(r), ensure_ascii=False, allow_nan=False) for r in records)
    return "".join(row + "\n" for row in rows)


def file_of(folder: Path) -> Path:
    """The records of a run folder: records.jsonl, or its gzip where somebody packed it."""
    packed = folder / "records.jsonl.gz"
    return packed if packed.is_file() else folder / "records.jsonl"


def read(path: Path) -> list[Record]:
    """Every record of a file, packed with gzip or not; BadRecords names the line that is wrong."""
    return list(_parse(path))


def _parse(path: Path) -> Iterator[Record]:
    names = {f.name for f in fields(Record)}
    try:
        # Not splitlines: a prompt may hold a separator that JSON leaves as it is.
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        lines = text.removesuffix("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadRecords(
            f"{path} cannot be read ({error}); give the records.jsonl of a run"
        ) from error
    if lines == [""]:
        raise BadRecords(f"{path} holds no records; the run that wrote it did not get that far")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            cut = number == len(lines)
            why = "the file was cut off there" if cut else "the line is damaged"
            raise BadRecords(
                f"{path}, line {number} of {len(lines)}: not a whole JSON record, {why}. "
                f"Delete that line to report on the other {len(lines) - 1}, or run again"
            ) from error
        if not isinstance(row, dict) or set(row) != names:
            have = set(row) if isinstance(row, dict) else set()
            raise BadRecords(
                f"{path}, line {number}: the fields do not fit this version "
                f"(missing {sorted(names - have)}, unknown {sorted(have - names)}); "
                "read it with the version that wrote it"
            )
        yield Record(**row)


def write_atomic(path: Path, text: str) -> None:
    """Write a text file under a temporary name, flush it and put it in place by a rename."""
    write(path, text.encode())
