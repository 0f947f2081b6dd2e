"""Files of published weights: they lie where the user put them and count by their SHA-256."""

import hashlib
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sidestep.errors import BadModel, SidestepWarning


class Published(NamedTuple):
    """A file that others published and that is never part of this package."""

    file: str  # its published name
    sha256: str | None  # None where nobody publishes one
    source: str  # who publishes it, and where


@cache
def sha256(path: Path) -> str:
    """Hash of a file, once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(
    path: Path | str, published: Published, expected: str | None = None
) -> tuple[Path, str]:
    """The file at that path and its SHA-256, refused if it is another file.

    `expected` is the user's own record of the hash. Where neither that nor a published hash exists
    the file is taken as it is, and a SidestepWarning says the hash to expect from now on.

    Raises:
        BadModel: there is no such file, or it has another hash than published or expected.
    """
    path = Path(path)
    if not path.is_file():
        raise BadModel(
            f"there is no file {path}; get {published.file} from {published.source} and give its "
            "path"
        )
    found = sha256(path)
    for wanted, who in ((published.sha256, "published"), (expected, "expected")):
        if wanted is not None and found != wanted.lower():
            raise BadModel(
                f"{path} has SHA-256 {found[:12]}..., {who} is {wanted[:12]}... for "
                f"{published.file}; its numbers would not compare with others of that name. "
                f"Get the file again from {published.source}"
            )
    if published.sha256 is None and expected is None:
        warnings.warn(
            f"nobody publishes a hash of {published.file}, so this file is taken as it is; give "
            f"sha256={found!r} from now on and another file will be refused",
            SidestepWarning,
            stacklevel=3,
        )
    return path, found
