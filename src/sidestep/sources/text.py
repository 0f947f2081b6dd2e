"""Text files that somebody else wrote: strict UTF-8, a line at a time, errors with a place."""

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidestep.errors import BadData

LONGEST = 65536  # bytes of a line; a caption has hundreds
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a UTF-8 file, with or without a byte order mark.

    One line is in memory at a time. Raises BadData for a file that is missing, a line longer than
    LONGEST bytes and a byte that is no UTF-8: with its position and the encoding it looks like.
    """
    start = 0
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(LONGEST + 1):
                number += 1
                if len(raw) > LONGEST:
                    raise BadData(
                        f"{path}, line {number} is longer than {LONGEST} bytes, which no caption "
                        "is; give a file with one entry per line"
                    )
                line = _decoded(raw, start, path, number)
                yield number, line.rstrip("\r\n")
                start += len(raw)
    except OSError as error:
        raise _closed(path, error) from error


def whole(path: Path) -> str:
    """A file that cannot be read in parts, under the rules of `lines` but for their length."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _closed(path, error) from error
    return _decoded(raw, 0, path, 1)


def _closed(path: Path, error: OSError) -> BadData:
    reason = (error.strerror or str(error)).lower()
    return BadData(f"{path} cannot be read ({reason}); check the path")


def _decoded(raw: bytes, start: int, path: Path, number: int) -> str:
    """The text of a part of a file that begins at byte `start`, on line `number`."""
    mark = next((m for m in MARKS if raw.startswith(m)), None) if start == 0 else None
    if mark is not None:
        at, found = 0, MARKS[mark]
    elif b"\0" in raw:
        at, found = raw.index(b"\0"), "UTF-16"
    else:
        try:
            return raw.decode("utf-8-sig" if start == 0 else "utf-8")
        except UnicodeDecodeError as error:
            at, found = error.start, "Windows-1252"
    raise BadData(
        f"{path}, line {number + raw.count(10, 0, at)}: byte {start + at} of the file "
        f"(0x{raw[at]:02x}) is no text in UTF-8; the file looks like {found}. Convert it, for "
        f"example with: iconv -f {found} -t UTF-8"
    )


def text(path: Path) -> str:
    """A whole file without blanks around it."""
    return whole(path).strip()


def json_object(path: Path) -> dict[str, Any]:
    """The one object that a JSON file holds."""
    try:
        value = json.loads(whole(path))
    except json.JSONDecodeError as error:
        raise BadData(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg.lower()}); "
            "the file may have been cut off: copy it again"
        ) from error
    if not isinstance(value, dict):
        raise BadData(f"{path} holds a {type(value).__name__}; it must be one object")
    return value


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON Lines file; blank lines are left out."""
    for number, line in lines(path):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadData(
                    f"{path}, line {number}, column {error.colno}: not JSON ({error.msg.lower()}); "
                    "each line must be one object, and a cut-off last line means that the file "
                    "was not copied whole"
                ) from error
            if not isinstance(row, dict):
                raise BadData(
                    f"{path}, line {number}: a {type(row).__name__} came; each line must be one "
                    'object such as {"caption": ..., "index": ...}'
                )
            yield number, row


def rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by heading) of a CSV file whose first line has the headings.

    A cell is data whatever it begins with: nothing is evaluated.
    """
    reader = csv.DictReader(
        (line + "\n" for _, line in lines(path)), delimiter=delimiter, strict=True
    )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise BadData(
                    f"{path}, line {reader.line_num}: the number of cells is not that of the "
                    f"headings; is {delimiter!r} what separates the cells?"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise BadData(
            f"{path}, line {reader.line_num}: not CSV ({error}); a quote may not be closed"
        ) from error


def cell(path: Path, number: int, row: dict[str, Any], name: str) -> str:
    """The text under a name in a row; raises BadData where it is missing, empty or no text."""
    if name not in row:
        raise BadData(
            f"{path}, line {number}: there is no {name!r}; there are {', '.join(map(repr, row))}"
        )
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise BadData(
            f"{path}, line {number}: {name!r} is {value!r}; it must be text that is not empty"
        )
    return value
