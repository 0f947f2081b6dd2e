"""The bundle of an audit: files that one number stands for.

`seal` lists the SHA-256 of every file in SHA256SUMS, and the SHA-256 of that list stands for them
all. Whoever has this number from a place that the bundle's maker cannot reach afterwards, or a
signature of the list, can tell any later change; a bundle alone shows only that it fits itself.

Names come from walking the folder and never from the list, so no list leads anywhere else.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sidestep import files
from sidestep.audit import canonical, sums
from sidestep.errors import BadBundle, SidestepError

AUDIT = "audit.json"
NEEDED = (AUDIT, "report.html")
LARGEST = 64 * 2**20  # bytes of audit.json: summaries, while pictures have lines of records

# Counts numbers of a bundle again from its records; a sentence for each that does not follow.
Recount = Callable[[Path], Iterable[str]]


@dataclass(frozen=True)
class Checked:
    """What checking a bundle found."""

    hash: str  # SHA-256 of SHA256SUMS as it is, in hexadecimal digits
    files: int  # in the list
    size: int  # bytes of the listed files that are there
    problems: tuple[str, ...]  # sentences; none: the bundle is as it was sealed
    uncovered: tuple[str, ...]  # what lies there and is no part of the bundle

    @property
    def holds(self) -> bool:
        """Whether there was no problem."""
        return not self.problems


class Entry(NamedTuple):
    """Something in the folder of a bundle that is no folder."""

    name: str  # relative, with / between folders
    path: Path
    kind: str  # empty for a regular file, otherwise what else it is
    size: int  # bytes


def seal(folder: Path | str) -> str:
    """Write the SHA256SUMS of a bundle; its SHA-256, the number that stands for the bundle.

    Temporary files that a killed process left are removed. A list that is right already stays as
    it is, down to its time.

    Raises:
        BadBundle: a file is missing that every bundle has, is a link or not a regular file, has a
            name that a list may not have, audit.json is not canonical, or the files are not those
            that a signature was made for.
        OSError: a file cannot be read or written.
    """
    folder = Path(folder)
    hashes = {}
    for entry in list(entries(folder)):
        if files.is_temporary(entry.name):
            entry.path.unlink()
        elif entry.kind:
            raise BadBundle(
                f"{entry.path} is {entry.kind}; a bundle has regular files only: put the file "
                "itself there, or take it out"
            )
        else:
            hashes[entry.name] = _sha256(entry.path)
    for name in NEEDED:
        if name not in hashes:
            raise BadBundle(f"{folder} has no {name}; seal the folder of a finished audit")
    try:
        canonical.from_bytes(_small(folder / AUDIT, LARGEST))
    except ValueError as error:
        raise BadBundle(f"{folder / AUDIT}: {error}; write it as canonical JSON") from error
    try:
        data = sums.to_bytes(hashes)
    except ValueError as error:
        raise BadBundle(f"{folder} cannot be sealed: {error}") from error
    path = folder / sums.NAME
    if not path.is_file() or path.read_bytes() != data:
        for name in sums.SIGNATURES:
            if (folder / name).exists():
                raise BadBundle(
                    f"{folder} was signed with other files in it; move {name} away, then seal and "
                    "sign again"
                )
        files.write(path, data)
    return hashlib.sha256(data).hexdigest()


def check(
    folder: Path | str, expect: str | None = None, recounts: Iterable[Recount] = ()
) -> Checked:
    """Whether a bundle, which may come from anybody, is as it was sealed.

    Args:
        folder: the bundle.
        expect: the number that `seal` returned, from a source of its own.
        recounts: called with the folder once every file holds; what they say and any
            SidestepError or ValueError of theirs becomes a problem.

    Raises:
        BadBundle: there is no SHA256SUMS, or it is a link or larger than any list.
        ValueError: `expect` is no SHA-256.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    if expect is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", expect):
        raise ValueError(f"{expect!r} is no SHA-256; give its 64 hexadecimal digits")
    data = _list_of(folder)
    number = hashlib.sha256(data).hexdigest()
    problems = []
    if expect is not None and expect.lower() != number:
        problems.append(
            f"{sums.NAME} has the hash {number}, and {expect.lower()} was expected: this is "
            "another bundle, or it was sealed again."
        )
    try:
        listed = sums.from_bytes(data)
    except ValueError as error:
        said = f"{sums.NAME} was damaged or not written by a seal: {error}. No file was compared."
        return Checked(number, 0, 0, (*problems, said), tuple(_uncovered(folder)))
    there = {entry.name: entry for entry in entries(folder)}
    problems += _differences(listed, there)
    problems += [f"{n!r} is no part of it; every audit has one." for n in NEEDED if n not in listed]
    if not problems:
        problems += _canonical(folder)
        for recount in recounts:
            problems += _said(recount, folder)
    size = sum(there[name].size for name in listed.keys() & there.keys())
    return Checked(number, len(listed), size, tuple(problems), tuple(_uncovered(folder)))


def entries(folder: Path) -> Iterator[Entry]:
    """Everything of a bundle but folders, in no order; links are named and not followed.

    Left out are, at the top, SHA256SUMS, its signatures and the folder work.
    """
    waiting = [("", folder)]
    while waiting:
        above, place = waiting.pop()
        with os.scandir(place) as found:
            for entry in found:
                name, status = above + entry.name, entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if name != sums.WORK:
                        waiting.append((f"{name}/", Path(entry.path)))
                elif name not in (sums.NAME, *sums.SIGNATURES):
                    yield Entry(name, Path(entry.path), _kind(status.st_mode), status.st_size)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return "a link" if stat.S_ISLNK(mode) else "a device, pipe or socket"


def _uncovered(folder: Path) -> Iterator[str]:
    work = folder / sums.WORK
    if work.is_dir() and not work.is_symlink():
        yield f"{sums.WORK}/"
    yield from (name for name in sums.SIGNATURES if os.path.lexists(folder / name))


def _differences(listed: dict[str, str], there: dict[str, Entry]) -> Iterator[str]:
    # repr, because a name that was added may steer a terminal.
    for name in sorted(listed.keys() | there.keys(), key=os.fsencode):
        entry = there.get(name)
        if entry is None:
            yield f"{name!r} is missing."
        elif entry.kind:
            yield f"{name!r} is {entry.kind}; a bundle has regular files only."
        elif name not in listed:
            yield f"{name!r} is not in {sums.NAME}: it was added or renamed."
        elif _sha256(entry.path) != listed[name]:
            yield f"{name!r} was changed: its SHA-256 is not the one in {sums.NAME}."


def _canonical(folder: Path) -> Iterator[str]:
    try:
        canonical.from_bytes(_small(folder / AUDIT, LARGEST))
    except ValueError as error:
        yield f"{AUDIT} is not what an audit writes: {error}."


def _said(recount: Recount, folder: Path) -> list[str]:
    try:
        return list(recount(folder))
    except (SidestepError, ValueError) as error:
        return [f"The numbers cannot be counted again: {error}."]


def _list_of(folder: Path) -> bytes:
    path = folder / sums.NAME
    if path.is_symlink() or not path.is_file():
        raise BadBundle(
            f"{folder} is no bundle: it has no file {sums.NAME}; give the folder of an audit"
        )
    try:
        return _small(path, sums.MOST)
    except ValueError as error:
        raise BadBundle(f"{path} is no list of a bundle: {error}, which no seal writes") from error


def _small(path: Path, most: int) -> bytes:
    """The bytes of a file that must be read at once; ValueError if there are more."""
    with path.open("rb") as file:
        # Not read(most + 1), which takes that much memory for the smallest file.
        if os.fstat(file.fileno()).st_size > most:
            raise ValueError(f"it has more than {most >> 20} MiB")
        return file.read()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
