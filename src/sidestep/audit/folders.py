"""Folders that a command fills and others open: an index, pictures set apart.

One JSON file says what the rest was made from. A done-mark, written last, vouches for all of it:
without it, or with files that are not as it says, a folder is not opened.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sidestep.errors import BadRecords
from sidestep.runs import marks

Facts = TypeVar("Facts")


class Folders(NamedTuple):
    """The folders of one command."""

    facts: str  # the JSON file
    version: int  # of the layout of the folder; the facts have it as `version`
    mark: str
    none: str  # what is said of another folder, such as "is no index"
    named: str  # such as "the index"
    command: str  # such as "sidestep index"

    def read(self, folder: Path, make: Callable[[dict[str, Any]], Facts]) -> Facts:
        """The facts of a folder, finished or not.

        Raises BadRecords where the folder is another one, or of another version.
        """
        path = folder / self.facts
        if not path.is_file():
            raise BadRecords(
                f"{folder} {self.none} (there is no {path}); give the folder that "
                f"`{self.command}` wrote"
            )
        try:
            values = json.loads(path.read_bytes())
            if values["version"] == self.version:
                return make(values)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadRecords(
                f"{folder} {self.none} ({error}); give the folder that `{self.command}` wrote"
            ) from error
        raise BadRecords(
            f"{path} is of version {values['version']}, and this reads version {self.version}; run "
            f"`{self.command}` again, into another folder"
        )

    def check(self, folder: Path, done: str) -> None:
        """Raise BadRecords unless a folder is finished and unchanged; `done` is its mark's id."""
        if not marks.holds(folder, self.mark, done):
            raise BadRecords(
                f"{self.named} in {folder} is not finished, or was changed afterwards; run "
                f"`{self.command}` again with the same arguments: it goes on where it stopped"
            )
