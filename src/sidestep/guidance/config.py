"""Rules as plain dictionaries and back, for configuration files: `{"name": ..., settings}`.

The name is the registry's, so a file says "dynamic" and names no Python class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sidestep import registry
from sidestep.errors import SidestepError
from sidestep.guidance.base import Rule

KINDS: tuple[registry.Kind, ...] = ("rule", "schedule")


def as_dict(rule: Any) -> dict[str, Any]:
    """A rule, or a schedule inside of one, as numbers, strings, lists and dictionaries.

    Raises SidestepError for an object that the registry does not name: a file could not name it
    either.
    """
    for entry in registry.entries(*KINDS):
        if type(rule) is entry.load() and is_dataclass(rule):
            settings = {f.name: _plain(getattr(rule, f.name)) for f in fields(rule)}
            return {"name": entry.name, **settings}
    known = ", ".join(e.name for e in registry.entries("rule"))
    raise SidestepError(
        f"{type(rule).__name__} is no registered rule, so a configuration cannot name it; "
        f"registered are {known}"
    )


def from_dict(given: Mapping[str, Any]) -> Rule[Any]:
    """The rule that `as_dict` wrote; settings left out have their defaults.

    Raises SidestepError for a name or a setting that does not exist, ValueError for a value that
    the rule refuses.
    """
    if "name" not in given:
        raise SidestepError(
            f"a rule needs a name and {dict(given)} has none; write for example "
            '{"name": "static", "time": 0.5}'
        )
    settings = dict(given)
    name = str(settings.pop("name"))
    kind = registry.get(name, *KINDS).load()
    check_settings(name, settings, [f.name for f in fields(kind)])  # type: ignore[arg-type]
    rule: Rule[Any] = kind(**{key: _rich(value) for key, value in settings.items()})
    return rule


def check_settings(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse settings that the method of that name does not have."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SidestepError(
            f"the rule {name} has no setting {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known))}"
        )


def _plain(value: Any) -> Any:
    """JSON knows lists and no tuples."""
    if is_dataclass(value):
        return as_dict(value)
    return list(value) if isinstance(value, tuple) else value


def _rich(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    return tuple(value) if isinstance(value, list) else value
