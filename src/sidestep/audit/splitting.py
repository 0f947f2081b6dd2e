"""Setting pictures apart: near-duplicates are grouped, groups chosen, and pictures placed.

Once hold-out.json is there the choice stands, and only what is missing is placed.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from sidestep.audit import placing
from sidestep.audit.build import build_index
from sidestep.audit.embedding import Engine
from sidestep.audit.groups import Group, Side, choose, gather, labels
from sidestep.audit.hold_out import (
    COMPLETE,
    FACTS,
    LIST,
    HoldOut,
    Settings,
    open_hold_out,
    read_rows,
    write_rows,
)
from sidestep.audit.index import open_index
from sidestep.audit.near_duplicates import Report
from sidestep.audit.shards import Picture
from sidestep.errors import BadData, BadRecords
from sidestep.runs import marks
from sidestep.similarity.base import Recipe
from sidestep.sources.base import Collection

INDEX, LOCK = "index", "lock"


class Placed(NamedTuple):
    """A finished split, and how its files came to be."""

    split: HoldOut
    links: int  # pictures that are hard links to the source
    copies: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self.split) | {"links": self.links, "copies": self.copies}


def hold_out(
    collection: Collection,
    out: Path,
    recipe: Recipe,
    *,
    share: float,
    similarity: float,
    side: int = 256,
    earlier: Path | None = None,
    batch: int = 32,
    engine: Engine | None = None,
    report: Report = lambda task, done, total: None,
) -> Placed:
    """Split a collection into pictures to train on and pictures set apart.

    Near-duplicates are on one side. The choice depends on the bytes of the pictures, never on their
    names or order. Killed and called again it goes on, with the same result; a finished split is
    checked, every file of it.

    Args:
        collection: see `sources.collection.open_collection`.
        out: the folder of the split; made if it is not there.
        recipe: that near-duplicates are found with.
        share: of the readable pictures to set apart, in (0, 1).
        similarity: from here on two pictures are near-duplicates; above 0 and at most 1.
        side: pixels of the centre square that pictures are compared at.
        earlier: the folder of a finished split, whose pictures keep their sides.
        batch: pictures embedded at once, at most `embedding.UNIT`.
        engine: where pictures are embedded; see `build_index`.
        report: told the task and how much of how much is done.

    Raises:
        BadRecords: the folder holds a split of another source or of other settings, or files that
            are of no split; or another process works on it.
        BadData: one side would be empty, or the collection is.
        ValueError: a setting is out of range.
    """
    if not 0 < share < 1 or not 0 < similarity <= 1:
        raise ValueError(
            f"share is {share} and similarity {similarity}; share must lie between 0 and 1, and "
            "similarity above 0 and at most at 1"
        )
    before = _sides(earlier) if earlier else {}
    settings = Settings(
        recipe.name,
        getattr(recipe, "fingerprint", ""),
        side,
        similarity,
        share,
        marks.file(earlier, FACTS).sha256 if earlier else "",
    )
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            if (out / FACTS).exists():
                split = HoldOut.read(out)
                _same(out, split.settings, settings)
            else:
                placing.check(out, {})
                build_index(
                    collection, out / INDEX, recipe, side=side, batch=batch, engine=engine,
                    report=report,
                )  # fmt: skip
                split = _choose(out, settings, before, report)
            rows = read_rows(out, split)
            files, links = placing.place(collection, out, rows, report)
            marks.vouch(
                out, COMPLETE, split.id, [marks.file(out, f) for f in (FACTS, LIST, *files)]
            )
            return Placed(split, links, split.train + split.held_out - links)
    except Timeout as error:
        raise BadRecords(
            f"another process sets pictures apart in {out}; wait for it or give another folder"
        ) from error


def _same(out: Path, there: Settings, wanted: Settings) -> None:
    names = [f.name for f in fields(Settings)]
    differ = [n for n in names if getattr(there, n) != getattr(wanted, n)]
    if differ:
        had, came = (
            ", ".join(f"{n} {getattr(s, n) or 'none'}" for n in differ) for s in (there, wanted)
        )
        raise BadRecords(
            f"the split in {out} has {had}, and {came} came; a choice that was made stays: give "
            "those, or another folder"
        )


def _choose(out: Path, settings: Settings, before: dict[str, Side], report: Report) -> HoldOut:
    """Choose, and write the choice down: from then on it stands."""
    index = open_index(out / INDEX)
    pictures = list(index.pictures())
    sha256 = [p.sha256 for p in pictures if p.status == "ok"]
    if not sha256:
        raise BadData("no picture of the source can be read, so none can be set apart")
    label = labels(index, sha256, settings.similarity, report)
    groups = gather(sha256, label)
    chosen = choose(groups.values(), settings.share, before)
    of = {h: groups[n] for h, n in zip(sha256, label.tolist(), strict=True)}
    rows = sorted((_row(p, of, chosen) for p in pictures), key=lambda r: r.path)
    file = write_rows(out, rows)
    sides = Counter(r.side for r in rows)
    split = HoldOut(
        settings=settings,
        pictures=len(rows),
        source=_source(rows),
        train=sides["train"],
        held_out=sides["held-out"],
        unreadable=dict(Counter(r.reason for r in rows if r.reason).most_common()),
        reached=sides["held-out"] / len(sha256),
        groups=len(groups),
        held_out_groups=len(chosen),
        largest=max(len(g.sha256) for g in groups.values()),
        moved=sum(r.side == "train" and before.get(r.sha256) == "held-out" for r in rows),
        list=file.sha256,
        index=index.hash,
    )
    marks.put(out, FACTS, split.text.encode())
    return split


def _row(picture: Picture, of: dict[str, Group], chosen: set[str]) -> placing.Row:
    key = of[picture.sha256].key if picture.status == "ok" else ""
    side: placing.Place = ("held-out" if key in chosen else "train") if key else ""
    return placing.Row(
        picture.id, picture.path, picture.sha256, side, key, picture.reason, picture.caption
    )


def _source(rows: Iterable[placing.Row]) -> str:
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps([row.path, row.sha256, row.caption]).encode() + b"\n")
    return total.hexdigest()


def _sides(earlier: Path) -> dict[str, Side]:
    rows = read_rows(earlier, open_hold_out(earlier))
    return {r.sha256: r.side for r in rows if r.side}
