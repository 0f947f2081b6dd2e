"""Parts of training pictures inside of generated ones: a logo, a face.

The pictures of the audited setting that are no copies as a whole are searched for parts, under a
threshold of never-trained pictures that were searched alike.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sidestep.audit import controls, names
from sidestep.audit.evidence import Exhibit, Finding, Group, Share, TrainingPicture
from sidestep.audit.findings import EXHIBITS, asked, groups
from sidestep.audit.index import Index
from sidestep.audit.local import Match, Tiled, calibrate_parts, local_copies
from sidestep.runs.records import Record
from sidestep.similarity.base import Images
from sidestep.sources.base import Collection
from sidestep.sources.pictures import framed

CONTROLS = 4  # never-trained pictures for every one that the rate of false alarms asks for


class Found(NamedTuple):
    """A generated picture that holds a part of a training picture."""

    record: Record
    match: Match


class Search(NamedTuple):
    """What parts are looked for with."""

    training: Tiled
    never_trained: Collection
    known: Index  # of the never-trained pictures, whole
    rate: float


def find(search: Search, records: Sequence[Record], folder: Path) -> list[Found]:
    """The records whose pictures, in a run folder, are no copies but hold a part of one."""
    side = search.training.index.settings.side
    calibration = calibrate_parts(_never_trained(search), search.training, search.rate)
    whole = [r for r in records if not r.copy]
    images = (framed(Image.open(folder / r.image), side) for r in whole)
    matches = local_copies(images, search.training, calibration)
    return [Found(r, m) for r, m in zip(whole, matches, strict=True) if m is not None]


def share(found: Sequence[Found], records: Sequence[Record]) -> Share | None:
    """Pictures that hold a part, among those made for captions that are no copies as a whole."""
    whole = [r for r in asked(records) if not r.copy]
    parts = len(asked(f.record for f in found))
    return Share.count(parts, len(whole)) if whole else None


def findings(
    found: Sequence[Found],
    records: Sequence[Record],
    pictures: Mapping[str, TrainingPicture],
    command: Callable[[Record], str],
) -> list[Finding]:
    """The training pictures of which a part came back, by path; the closest first."""
    by_path = dict[str, list[Found]]()
    for one in sorted(found, key=lambda f: -f.match.similarity):
        by_path.setdefault(one.match.path, []).append(one)
    return [
        Finding(
            training=pictures[path],
            prompts=_prompts(rows, records),
            similarity=rows[0].match.similarity,
            exhibits=tuple(_exhibit(one, command) for one in rows[:EXHIBITS]),
            local=True,
        )
        for path, rows in by_path.items()
    ]


def _prompts(rows: Sequence[Found], records: Sequence[Record]) -> tuple[Group, ...]:
    """For each prompt, the pictures that hold a part of this training picture."""
    made = {g.name: g.share.of for g in groups(records, lambda r: r.prompt)}
    prompts = dict.fromkeys(one.record.prompt for one in rows)
    return tuple(
        Group(name=p, share=Share.count(sum(r.record.prompt == p for r in rows), made[p]))
        for p in prompts
    )


def _exhibit(one: Found, command: Callable[[Record], str]) -> Exhibit:
    return Exhibit(
        prompt=one.record.prompt,
        draw=one.record.draw,
        seed=str(one.record.seed),
        similarity=one.match.similarity,
        picture=names.generated(one.record),
        command=command(one.record),
        window=(
            f"{one.match.here.fragment.removeprefix('#')} of the generated picture, "
            f"{one.match.there.fragment.removeprefix('#')} of the training picture"
        ),
    )


def _never_trained(search: Search) -> Images:
    """Enough never-trained pictures for the threshold, chosen by their hash."""
    most = int(np.ceil(CONTROLS / search.rate))
    ok = sorted((p for p in search.known.pictures() if p.status == "ok"), key=lambda p: p.id)
    wanted = {p.path: row for row, p in enumerate(ok[:most])}
    found = controls.pixels(search.never_trained, wanted, search.training.index.settings.side)
    return np.stack(list(found.values()))
