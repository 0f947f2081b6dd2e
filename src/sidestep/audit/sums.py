"""The list SHA256SUMS of a bundle, in the format of coreutils' `sha256sum`.

One line a file: the SHA-256 in hexadecimal digits, two blanks, the name with `/` between folders;
in the order of the names' bytes. There is one list for a set of files, byte for byte, and it is
checked with `sha256sum -c SHA256SUMS`.
"""

import re
from collections.abc import Mapping

NAME = "SHA256SUMS"
# Signatures, and what asks for and answers a time stamp (RFC 3161).
SIGNATURES = tuple(f"{NAME}.{ending}" for ending in ("sig", "asc", "minisig", "tsq", "tsr"))
WORK = "work"  # the folder of an audit's working state
MOST = 128 * 2**20  # bytes of a list, about a million files
LINE = re.compile(rb"([0-9a-f]{64})  (.{1,4096})", re.DOTALL)


def to_bytes(sums: Mapping[str, str]) -> bytes:
    """The list of {name: SHA-256}; ValueError for a name that no list may have, or too many."""
    for name in sums:
        if reason := odd(name):
            raise ValueError(f"{name!r} {reason}; give it another name")
    data = b"".join(f"{sums[name]}  {name}\n".encode() for name in sorted(sums, key=str.encode))
    if len(data) > MOST:
        raise ValueError(f"the list of {len(sums)} files is over {MOST >> 20} MiB; leave some out")
    return data


def from_bytes(data: bytes) -> dict[str, str]:
    """{name: SHA-256} of a list that may come from anybody.

    Raises ValueError for whatever `to_bytes` would not write: a line of another form, names out of
    order or twice, absolute names, `..`, names that a bundle does not cover.
    """
    if not data.endswith(b"\n"):
        raise ValueError("it does not end with a whole line")
    sums: dict[str, str] = {}
    before = b""
    for number, line in enumerate(data[:-1].split(b"\n"), start=1):
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not 64 hexadecimal digits, two blanks and a name")
        try:
            name = found[2].decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"line {number} has a name that is no UTF-8") from None
        if reason := odd(name):
            raise ValueError(f"line {number} has a name that {reason}")
        if found[2] <= before:
            raise ValueError(f"line {number} is out of order, or of a file that came before")
        before = found[2]
        sums[name] = found[1].decode()
    return sums


def odd(name: str) -> str | None:
    """Why a list may not have a name, as the end of a sentence; None if it may.

    What does not print could hide a name or steer a terminal; a backslash is an escape to
    `sha256sum`, and a bare dash its standard input.
    """
    parts = name.split("/")
    if not name.isprintable() or "\\" in name:
        return "has a backslash or characters that do not print"
    if len(name.encode()) > 4096:
        return "is longer than 4096 bytes"
    if name == "-":
        return "is a bare dash, which sha256sum takes for its standard input"
    if not all(parts) or "." in parts or ".." in parts:
        return "is not a plain path below the bundle"
    if parts[0] == WORK or name in (NAME, *SIGNATURES):
        return "is no part of a bundle"
    return None
