"""BibTeX entries of the papers behind the methods, from citations.bib by key."""

import re
from functools import cache
from importlib.resources import files

from sidestep.errors import SidestepError


@cache
def entries() -> dict[str, str]:
    """Every entry as BibTeX text, by key."""
    text = files("sidestep").joinpath("citations.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([^,]+),\n.*?^\}$", text, flags=re.MULTILINE | re.DOTALL)
    whole = re.findall(r"^@\w+\{.*?^\}$", text, flags=re.MULTILINE | re.DOTALL)
    return dict(zip(found, whole, strict=True))


def bibtex(key: str) -> str:
    """The entry of a key; raises SidestepError for a key that is not there."""
    if key not in entries():
        raise SidestepError(f"citations.bib has no entry {key!r}; it has {', '.join(entries())}")
    return entries()[key]
