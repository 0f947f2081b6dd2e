"""Pictures set apart before training, so that an audit has never-trained ones to calibrate with.

A folder holds `index/` (of the whole source), `pictures.parquet` (the side of every picture),
`hold-out.json` (what the choice was made from; once it is there, the choice stands), the sides
`train/` and `held-out/`, and `complete.json`, a done-mark: by it a finished split is told from one
that was not.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from sidestep.audit import placing
from sidestep.audit.folders import Folders
from sidestep.audit.shards import arrow
from sidestep.errors import BadRecords
from sidestep.runs import marks

FACTS, LIST, COMPLETE = "hold-out.json", "pictures.parquet", "complete.json"
VERSION = 1  # of the layout of the folder
FOLDERS = Folders(
    FACTS, VERSION, COMPLETE, "holds no pictures set apart", "the split", "sidestep hold-out"
)


@dataclass(frozen=True)
class Settings:
    """What was asked for. Another answer needs another folder."""

    recipe: str
    fingerprint: str  # of the recipe's model, if it has one
    side: int  # pixels of the centre square that pictures are compared at
    similarity: float  # from here on two pictures are near-duplicates
    share: float  # of the readable pictures, asked for
    earlier: str  # SHA-256 of the earlier split's hold-out.json, or empty


@dataclass(frozen=True)
class HoldOut:
    """A choice and what it was made from, as hold-out.json keeps it.

    Attributes:
        settings: what was asked for.
        pictures: in the source, unreadable ones included.
        source: SHA-256 of every path, content and caption of the source, whatever their order.
        train, held_out: pictures of each side.
        unreadable: pictures on no side, by reason: what cannot be compared may have a twin.
        reached: share of the readable pictures that is held out.
        groups, held_out_groups: of near-duplicates, single pictures included.
        largest: pictures of the largest group.
        moved: pictures that the earlier split held out and that are trained on now, because a new
            picture ties them to trained ones.
        list: SHA-256 of pictures.parquet.
        index: hash of the index (`Index.hash`).
    """

    settings: Settings
    pictures: int
    source: str
    train: int
    held_out: int
    unreadable: dict[str, int]
    reached: float
    groups: int
    held_out_groups: int
    largest: int
    moved: int
    list: str
    index: str
    version: int = field(default=VERSION)

    @property
    def text(self) -> str:
        """As it stands in hold-out.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @property
    def id(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The choice in a folder, finished or not; BadRecords where there is none."""
        return FOLDERS.read(
            folder, lambda values: cls(**values | {"settings": Settings(**values["settings"])})
        )


def open_hold_out(folder: Path | str) -> HoldOut:
    """The finished split in a folder; BadRecords where there is none, or it was changed since."""
    folder = Path(folder)
    split = HoldOut.read(folder)
    FOLDERS.check(folder, split.id)
    return split


def write_rows(out: Path, rows: list[placing.Row]) -> marks.File:
    """Write where each picture goes, a row a picture."""
    pyarrow = arrow()
    columns = {n: [getattr(r, n) for r in rows] for n in placing.Row._fields}
    table = pyarrow.table({n: pyarrow.array(c, pyarrow.string()) for n, c in columns.items()})
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return marks.put(out, LIST, file.getvalue())


def read_rows(out: Path, split: HoldOut) -> list[placing.Row]:
    """Where each picture of a split goes; BadRecords if the file is not what was written."""
    file = marks.file(out, LIST)
    if file.sha256 != split.list:
        raise BadRecords(f"{out / LIST} is not what {FACTS} vouches for; give another folder")
    table: Any = arrow().parquet.read_table(io.BytesIO(marks.get(out, file)))
    return [placing.Row(**row) for row in table.to_pylist()]
