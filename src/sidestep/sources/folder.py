"""A folder of images. Captions: NAME.txt beside an image, or metadata.jsonl of image folders."""

from collections.abc import Iterator, Sequence
from os.path import normpath
from pathlib import Path

from sidestep.sources import text
from sidestep.sources.base import Item


class Folder:
    """Every image file below a folder.

    A caption is NAME.txt beside NAME.jpg, or the `text` or `caption` of a line of a metadata.jsonl
    whose `file_name` is the image's path from there.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root, self._files = root, files

    def count(self) -> int:
        """Image files, by their suffix."""
        return len(self._files)

    def items(self) -> Iterator[Item]:
        """In the order of the files; BadData for a caption file that is no UTF-8 text."""
        captions = {
            normpath(file.parent / text.cell(file, number, row, "file_name")): caption(row)
            for file in sorted(self.root.rglob("metadata.jsonl"))
            for number, row in text.json_lines(file)
        }
        for path in self._files:
            beside = path.with_suffix(".txt")
            said = text.text(beside) if beside.is_file() else captions.get(normpath(path))
            yield Item(path.relative_to(self.root).as_posix(), path, said or None)


def caption(row: dict[str, object]) -> str | None:
    """The caption in a row of metadata, under either of its usual names."""
    found = row.get("caption", row.get("text"))
    return found if isinstance(found, str) else None
