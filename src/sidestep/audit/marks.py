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
        row = json.loads((folder / mark).read_bytes())
        return row["done"] == done and all(_fits(folder, File(**f)) for f in row["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fits(folder: Path, file: File) -> bool:
    data = (folder / file.name).read_bytes()
    return len(data) == file.size and hashlib.sha256(data).hexdigest() == file.sha256
