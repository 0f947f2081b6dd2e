"""A method as people type it: on the command line, and in Python."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sidestep.runs.generate import Method


def options(how: Method) -> str:
    """The options of `sidestep audit` that ask for a method."""
    given = dict(how.settings)
    chain = [dict(m) for m in given.pop("mitigations", [])]
    rule = given.pop("rule", None)
    own = {"name": how.name, **given}
    if rule is None:
        parts = [("--rule", own)]
    else:
        parts = [("--rule", dict(rule)), ("--mitigation", own)]
    parts += [("--mitigation", one) for one in chain]
    return " ".join(f"{option} {shlex.quote(spelled(one))}" for option, one in parts)


def spelled(one: Mapping[str, Any]) -> str:
    """NAME:key=value,...; as JSON where a value is more than a number or a word."""
    settings = {k: v for k, v in one.items() if k != "name"}
    if not all(map(_reads_back, settings.values())):
        return json.dumps(dict(one))
    shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    return ":".join([one["name"], ",".join(f"{k}={v}" for k, v in shown.items())]).rstrip(":")


def _reads_back(value: Any) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, dict | list | tuple)
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return "," not in value
    return False  # it would be read as a number


def number(value: float) -> str:
    """A number as short as it can be read back, 2 and not 2.0."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def python(how: Method) -> str:
    """The lines around a pipeline's call that do the same."""
    if how.rule is None:
        return f"# {how.name} has a loop of its own: sidestep.sampling.probe.probe_and_sample"
    kinds = {kind for m in how.mitigations for kind in _kinds(m)}
    imports = sorted(f"from {kind.__module__} import {kind.__name__}" for kind in kinds)
    held = ", ".join(map(repr, how.mitigations))
    around = [f"sidestep.guide(pipe, {_rule(how.rule)})"]
    around += [f"sidestep.mitigate(pipe, {held}, seed=0)"] if held else []
    return "\n".join(
        [
            "import sidestep",
            *imports,
            "",
            f"with {', '.join(around)}:",
            f"    images = pipe(...)  # at guidance scale {how.scale:g}",
        ]
    )


def _kinds(one: Any) -> Iterator[type]:
    """The classes that an object's expression names."""
    yield type(one)
    for inner in (getattr(one, f.name) for f in fields(one)):
        if is_dataclass(inner):
            yield from _kinds(inner)


def _rule(rule: Any) -> str:
    """The rule as an expression; its scale after the transition is left to the pipeline."""
    settings = [f"{f.name}={getattr(rule, f.name)!r}" for f in fields(rule) if f.name != "after"]
    return f"sidestep.{type(rule).__name__}({', '.join(settings)})"
