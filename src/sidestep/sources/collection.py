"""Collections of training pictures with captions, in the forms people keep them in."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from sidestep.errors import BadData
from sidestep.sources import archive, folder, hub, table
from sidestep.sources.base import Collection, Columns
from sidestep.sources.pictures import SUFFIXES


def open_collection(source: str, columns: Columns | None = None) -> Collection:
    """The collection at a path, or the data set of that name on the Hub.

    A folder holds images, or tar archives, or Parquet files; a single archive or Parquet file is
    a collection too. What is no path is `NAME` or `NAME:SPLIT` of a data set.

    Raises:
        BadData: there is nothing to read, or a folder mixes these kinds.
        MissingExtra: a package that this kind needs is not installed.
    """
    path, columns = Path(source), columns or Columns()
    root, found = path, defaultdict[str, list[Path]](list)
    if path.is_file() and _kind(path) == "images":
        raise BadData(
            f"{source} is one picture; give the folder that it lies in, or one with it alone"
        )
    if path.is_file():
        root, found = path.parent, defaultdict(list, {_kind(path): [path]})
    elif path.is_dir():
        for file in path.rglob("*"):
            if (kind := _kind(file)) and file.is_file():
                found[kind].append(file)
    elif hub.NAME.fullmatch(source):
        return hub.DataSet(source, columns)
    else:
        raise BadData(f"there is no {source}; give a folder, a .tar or .parquet file or a data set")
    files = sorted(*found.values(), key=_within(root)) if len(found) == 1 else []
    if files and "images" in found:
        return folder.Folder(root, files)
    if files and ".tar" in found:
        return archive.Archives(root, files)
    if files and ".parquet" in found:
        return table.Tables(root, files, columns)
    there = " and ".join(sorted(filter(None, found))) or "nothing to read"
    raise BadData(
        f"{source} holds {there}; give a folder of images ({', '.join(sorted(SUFFIXES))}), or .tar "
        "archives or .parquet files"
    )


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if suffix in (".tar", ".parquet") else "images" if suffix in SUFFIXES else ""


def _within(root: Path) -> Callable[[Path], str]:
    return lambda path: path.relative_to(root).as_posix()
