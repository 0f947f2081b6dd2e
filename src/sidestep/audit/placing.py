"""Pictures and captions put where a split says, as hard links where the file system has them."""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from sidestep.audit.near_duplicates import Report
from sidestep.errors import BadRecords
from sidestep.files import write
from sidestep.sources.base import Collection, Item
from sidestep.sources.pictures import Refused, content

Place = Literal["train", "held-out", ""]
SIDES = ("train", "held-out")
CAPTIONS = "metadata.jsonl"
# What a file system answers that has no hard links, or none between these two places.
NO_LINKS = {
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP,
}  # fmt: skip
STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp"}


class Row(NamedTuple):
    """A picture of a source and where it goes."""

    id: str  # of its path and bytes, as in an index
    path: str  # in the source
    sha256: str  # of its bytes; empty where there are none
    side: Place  # empty: on neither, because it cannot be read
    group: str  # key of its group; empty as above
    reason: str  # why it is on neither
    caption: str | None


def place(
    collection: Collection, out: Path, rows: Sequence[Row], report: Report
) -> tuple[list[str], int]:
    """Put every picture on its side; the names of the files of captions, and how many are links.

    A picture of a folder keeps its path, and NAME.txt beside it; others are named by their id.
    Whatever is there already and whole stays.

    Raises:
        BadRecords: the source is not the one the rows were made of, or a side holds other files.
    """
    plan, links, done = {row.path: row for row in rows}, 0, 0
    names: dict[str, set[str]] = {side: {CAPTIONS} for side in SIDES}
    lines: dict[str, list[str]] = {side: [] for side in SIDES}
    for item in collection.items():
        row = plan.pop(item.path, None)
        if row is None or row.caption != item.caption:
            raise _other(out, item.path)
        if not row.side:
            if _hash(_content(item)) != row.sha256:
                raise _other(out, item.path)
        else:
            name, linked = _picture(item, row, out)
            links += linked
            names[row.side] |= {name, *_caption(item, name, out / row.side)}
            lines[row.side].append(
                json.dumps(
                    {"file_name": name, "text": row.caption, "source": row.path}, ensure_ascii=False
                )
            )
        done += 1
        report("files", done, len(rows))
    if plan:
        raise _other(out, next(iter(plan)))
    for side in SIDES:
        _put(out / side / CAPTIONS, "".join(f"{line}\n" for line in lines[side]).encode())
    check(out, names)
    return [f"{side}/{CAPTIONS}" for side in SIDES], links


def check(out: Path, names: Mapping[str, Names[str]]) -> None:
    """Raise BadRecords if a side holds what is not among its names; sweep what a kill left."""
    for side in SIDES:
        root = out / side
        for path in sorted(p for p in root.rglob("*") if not p.is_dir()):
            if path.relative_to(root).as_posix() in names.get(side, ()):
                continue
            if path.suffix != ".tmp":
                raise BadRecords(
                    f"{path} does not belong to the split; move it elsewhere, or give another "
                    "folder: what lies in train/ and held-out/ must be what was chosen"
                )
            path.unlink()


def _picture(item: Item, row: Row, out: Path) -> tuple[str, bool]:
    """Place one; its name on its side, and whether it is a link."""
    if not isinstance(item.data, Path):
        data = _checked(item, row, out)
        suffix = next(s for start, s in STARTS.items() if data.startswith(start))
        name = f"{row.id[:2]}/{row.id}{suffix}"
        _put(out / row.side / name, data)
        return name, False
    target, source = out / row.side / item.path, item.data.resolve()
    if target.exists() and target.samefile(source):
        _checked(item, row, out)
        return item.path, True
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        os.link(source, temporary)
        # What was linked is looked at, not what the name may stand for by now.
        _checked(item._replace(data=temporary), row, out)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _put(target, _checked(item, row, out))
        return item.path, False
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return item.path, True


def _checked(item: Item, row: Row, out: Path) -> bytes:
    data = _content(item)
    if data is None or _hash(data) != row.sha256:
        raise _other(out, row.path)
    return data


def _content(item: Item) -> bytes | None:
    try:
        data = content(item.data) if isinstance(item.data, Path) else item.data
    except Refused:
        return None
    return data if isinstance(data, bytes) else None


def _hash(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _caption(item: Item, name: str, side: Path) -> set[str]:
    """The text file beside a picture of a folder, as its collection read it."""
    if item.caption is None or not isinstance(item.data, Path):
        return set()
    if not item.data.with_suffix(".txt").is_file():
        return set()
    beside = Path(name).with_suffix(".txt")
    _put(side / beside, item.caption.encode())
    return {beside.as_posix()}


def _put(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, data)


def _other(out: Path, path: str) -> BadRecords:
    return BadRecords(
        f"the split in {out} was made of another source: {path} is not what it was then. Give that "
        "source, or another folder; with --earlier its pictures keep their sides there"
    )
