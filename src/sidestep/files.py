"""Files that are whole or absent, whatever stops the process that writes them."""

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

TEMPORARY = re.compile(r".+\..*-\d+\.tmp")


def write(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it and rename it into place.

    Raises OSError where that fails, and then leaves what was there before.
    """
    # Machines that share a folder must not write into each other's temporary files.
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # On a full disk the half-written file takes the room that is missing.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_temporary(name: str) -> bool:
    """Whether a name is one that `write` gives to a file which is not whole yet."""
    return TEMPORARY.fullmatch(name) is not None
