"""Done-marks that vouch for the files of a folder.

A mark is a small JSON file that is written last: it names what was done by an id and carries the
size and SHA-256 of every file that came of it. What a killed process leaves has no mark, and a file
that was cut or changed afterwards no longer fits its mark; both are done again.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sidestep.errors import BadRecords
from sidestep.files import write


class File(NamedTuple):
    """A file in a folder as a mark vouches for it."""

    name: str  # relative to the folder
    size: int  # bytes
    sha256: str


def put(folder: Path, name: str, data: bytes) -> File:
    """Write a file of a folder, whole or not at all; what a mark says of it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, data)
    return File(name, len(data), hashlib.sha256(data).hexdigest())


def vouch(folder: Path, mark: str, done: str, files: Iterable[File]) -> None:
    """Write a mark: what has that id is done, and these files came of it."""
    text = json.dumps({"done": done, "files": [f._asdict() for f in files]}, indent=1)
    put(folder, mark, text.encode())


def holds(folder: Path, mark: str, done: str) -> bool:
    """Whether a mark is there, is of that id, and every file it vouches for is as it says."""
    try:
        for file in files(folder, mark, done):
            get(folder, file)
    except (OSError, BadRecords):
        return False
    return True


def files(folder: Path, mark: str, done: str) -> list[File]:
    """What a mark of that id vouches for, not yet looked at; BadRecords without such a mark."""
    try:
        row = json.loads((folder / mark).read_bytes())
        if row["done"] == done:
            return [File(**f) for f in row["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRecords(f"{folder / mark} is missing or damaged ({error})") from error
    raise BadRecords(f"{folder / mark} is of something else")


def file(folder: Path, name: str) -> File:
    """A file as it is now, for a mark to vouch for."""
    data = (folder / name).read_bytes()
    return File(name, len(data), hashlib.sha256(data).hexdigest())


def get(folder: Path, file: File) -> bytes:
    """The bytes of a file; BadRecords unless they are what a mark vouches for."""
    data = (folder / file.name).read_bytes()
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise BadRecords(f"{folder / file.name} was cut off or changed after it was written")
    return data
