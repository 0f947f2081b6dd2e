"""Names in an audit's folder: the parts that pictures are made in, and the files of the bundle.

A part is a folder below the working folder, and its records have its name in audit.json.
"""

from collections.abc import Iterable, Mapping

from sidestep.runs.records import Record

OBSERVED = "observed"  # the audited setting: what the verdict rests on, and what is shown
TRIED = "tried"  # candidates, on the prompts and seeds of copies
ORDINARY = "ordinary"  # those that were enough, on ordinary prompts
BASE = "base"  # the model without its LoRA, for controls; not in the bundle
_CONFIRMED = "confirmed"  # begins the names of the parts with new seeds

PICTURES, RECORDS = "pictures", "records"  # folders of the bundle


def confirmation(number: int) -> str:
    """The part of the candidate of that number with new seeds, 1 = the cheapest."""
    return f"{_CONFIRMED}-{number}"


def confirmed(parts: Mapping[str, Iterable[Record]], label: str) -> list[Record]:
    """The records of a setting from new seeds, of all parts with them."""
    made = (r for part, rows in parts.items() if part.startswith(_CONFIRMED) for r in rows)
    return [r for r in made if r.rule == label]


def records(part: str) -> str:
    """The file of a part's records."""
    return f"{RECORDS}/{part}.jsonl"


def generated(record: Record) -> str:
    """The file of a generated picture."""
    return f"{PICTURES}/generated/{record.image.rpartition('/')[2]}"


def training(id: str) -> str:
    """The file of a training picture."""
    return f"{PICTURES}/training/{id}.png"
