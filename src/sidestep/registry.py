"""One lazy table of everything that has a name: it feeds the command line, docs and tests.

The entries are data, in registry.toml; their code is imported when it is asked for.
"""

import difflib
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from sidestep.errors import SidestepError

Kind = Literal[
    "rule",
    "schedule",
    "sampler",
    "mitigation",
    "calibration",
    "data",
    "model",
    "similarity",
    "metric",
]
GUIDES: tuple[Kind, ...] = ("rule", "sampler", "mitigation")  # what a run can be made with


class Entry(NamedTuple):
    """A named method: where its code is, what it does in one line, where it comes from."""

    name: str
    kind: Kind
    code: str  # module:attribute
    summary: str
    source: str
    cite: str = "sidestep"  # key in citations.bib; the default is for what is of this project

    def load(self) -> Callable[..., Any]:
        """Import the code."""
        module, attribute = self.code.split(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def entries(*kinds: Kind) -> list[Entry]:
    """The entries of those kinds; of all without one."""
    return [e for e in _every() if not kinds or e.kind in kinds]


@cache
def _every() -> tuple[Entry, ...]:
    """The whole table, in its order."""
    kinds = tomllib.loads(files("sidestep").joinpath("registry.toml").read_text(encoding="utf-8"))
    return tuple(
        Entry(name, kind, **said)  # type: ignore[arg-type]  # that kinds are known is tested
        for kind, methods in kinds.items()
        for name, said in methods.items()
    )


def get(name: str, *kinds: Kind) -> Entry:
    """The entry of that name among those kinds; SidestepError names the nearest for a typo."""
    known = {e.name: e for e in entries(*kinds)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    raise SidestepError(f"there is no {kinds[0] if kinds else 'method'} named {name!r}; {hint}")
