"""What an audit tries on its findings, and whether it fits the model."""

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec

from sidestep import registry
from sidestep.errors import BadData, Overflow
from sidestep.mitigations.base import Unfit
from sidestep.runs.generate import Job, Method, Model, make, method

FILE = "candidates.toml"  # of this package
ALL, NONE = "all", "none"  # what may be asked for beside names


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A method of the registry with its settings; a mitigation may say under which rule."""

    label: str
    name: str
    settings: dict[str, Any] = {}
    rule: dict[str, Any] | None = None

    def method(self, scale: float) -> Method:
        """Ready to sample, where the run has that guidance scale."""
        return method(self.name, self.label, rule=self.rule, open_scale=scale, **self.settings)


class Candidates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The candidates, and what cannot be one because it needs more than a number."""

    candidates: tuple[Candidate, ...]
    needs: dict[str, str]  # by registry name, what it needs


def load(names: Sequence[str] = (ALL,)) -> Candidates:
    """The candidates of those registry names, or all, or none.

    Raises SidestepError for a name that is no rule, sampler or mitigation, and BadData for one that
    needs more than numbers.
    """
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    every = msgspec.convert(tomllib.loads(text), Candidates)
    if ALL in names:
        return every
    wanted = {registry.get(n, *registry.GUIDES).name for n in names if n != NONE}
    for name in sorted(wanted & every.needs.keys()):
        raise BadData(f"{name} cannot be tried here: {every.needs[name]}")
    return Candidates(tuple(c for c in every.candidates if c.name in wanted), {})


def unfit(model: Model, how: Method, prompt: str) -> str | None:
    """Why a method has no pictures from a model, or None: found out by two steps of one."""
    try:
        make(model, [Job(prompt, 0)], how, steps=2)
    except (Unfit, Overflow) as why:
        return str(why)
    return None
