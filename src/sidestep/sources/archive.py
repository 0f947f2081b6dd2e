"""Tar archives of images with captions, as webdataset writes them: streamed, never unpacked.

Members that share their name up to the first dot are one sample: an image, and its caption as .txt
or as the `caption` or `text` of .json.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

from sidestep.errors import BadData
from sidestep.sources.base import Item
from sidestep.sources.folder import caption
from sidestep.sources.pictures import MOST_BYTES, SUFFIXES
from sidestep.sources.text import LONGEST


class Archives:
    """The image members of uncompressed tar archives.

    Links, devices and folders are passed over: only regular files have bytes of their own. What
    follows a damaged place of an archive cannot be found, which is an item of its own.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root, self._files = root, files

    def count(self) -> int:
        """Images, and one for each archive that is cut off or damaged."""
        return sum(1 for path in self._files for _ in self._archive(path, read=False))

    def items(self) -> Iterator[Item]:
        """In the order of the archives' names and inside of each as it lies."""
        for path in self._files:
            yield from self._archive(path, read=True)

    def _archive(self, path: Path, *, read: bool) -> Iterator[Item]:
        name, times = path.relative_to(self.root).as_posix(), Counter[str]()
        try:
            # Uncompressed only: a compressed archive may unfold to a thousand times its size.
            with tarfile.open(path, "r:") as archive:
                for _, members in groupby(_regular(archive), key=lambda m: _key(m.name)):
                    sample = list(members)
                    said = _caption(archive, sample) if read else None
                    for member in sample:
                        if _suffix(member.name) not in SUFFIXES:
                            continue
                        times[member.name] += 1
                        again = f"~{times[member.name]}" if times[member.name] > 1 else ""
                        data = _bytes(archive, member) if read else b""
                        yield Item(f"{name}/{member.name}{again}", data, said)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield Item(name, f"the archive is cut off or damaged ({error}); the rest is not there")


def _regular(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # it would keep every member, and an archive may have millions
        if member.isreg():
            yield member


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | str:
    if member.size > MOST_BYTES:
        return f"{member.size} bytes, more than {MOST_BYTES}"
    file = archive.extractfile(member)
    assert file is not None  # a regular file has one
    data = file.read()
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name} ends early")
    return data


def _caption(archive: tarfile.TarFile, sample: Iterable[tarfile.TarInfo]) -> str | None:
    small = {_suffix(m.name): m for m in sample if m.size <= LONGEST}
    for suffix in (".txt", ".json"):
        if suffix not in small:
            continue
        data = _bytes(archive, small[suffix])
        assert isinstance(data, bytes)
        try:
            if suffix == ".txt":
                return data.decode("utf-8").strip() or None
            row = json.loads(data)
        except ValueError as error:
            raise BadData(
                f"{small[suffix].name} in {archive.name!r} is no UTF-8 text or JSON ({error})"
            ) from error
        return caption(row) if isinstance(row, dict) else None
    return None
