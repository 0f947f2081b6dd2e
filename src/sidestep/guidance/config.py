"""Rules and mitigations as plain dictionaries and back, for files: `{"name": ..., settings}`.

The name is the registry's, so a file says "dynamic" and names no Python class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, get_args

from sidestep import registry
from sidestep.errors import SidestepError

DATA: registry.Kind = "data"  # ready-made objects, too large to be written out
KINDS: tuple[registry.Kind, ...] = ("rule", "schedule", "mitigation", DATA, "calibration")


def as_dict(rule: Any) -> dict[str, Any]:
    """A rule, a mitigation, or what is inside of one, as numbers, strings, lists and dictionaries.

    Raises SidestepError for an object that the registry does not name: a file could not name it
    either.
    """
    for entry in registry.entries(*KINDS):
        if entry.kind == DATA:
            if rule is entry.load()():
                return {"name": entry.name}
        elif type(rule) is entry.load() and is_dataclass(rule):
            settings = {f.name: _plain(getattr(rule, f.name)) for f in fields(rule)}
            return {"name": entry.name, **settings}
    known = ", ".join(e.name for e in registry.entries("rule"))
    raise SidestepError(
        f"{type(rule).__name__} is no registered rule, so a configuration cannot name it; "
        f"registered are {known}"
    )


def from_dict(given: Mapping[str, Any]) -> Any:
    """The rule or mitigation that `as_dict` wrote; settings left out have their defaults.

    Raises SidestepError for a name or a setting that does not exist, for one that is missing and
    for one that must be a number and is none, ValueError for a value that it refuses.
    """
    if "name" not in given:
        raise SidestepError(
            f"a rule needs a name and {dict(given)} has none; write for example "
            '{"name": "static", "time": 0.5}'
        )
    settings = dict(given)
    name = str(settings.pop("name"))
    entry = registry.get(name, *KINDS)
    kind = entry.load()
    if entry.kind == DATA:
        check_settings(name, settings, ())
        return kind()
    check_settings(name, settings, [f.name for f in fields(kind)])  # type: ignore[arg-type]
    missing = [f.name for f in fields(kind) if _required(f) and f.name not in settings]  # type: ignore[arg-type]
    if missing:
        raise SidestepError(
            f"{name} has no default for {', '.join(missing)}; give it among the settings, or make "
            "the object in Python where it is no number and no word"
        )
    made = {key: _rich(value) for key, value in settings.items()}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in made:
            _check_number(name, field, made[field.name])
    return kind(**made)


def _check_number(name: str, field: Any, value: Any) -> None:
    """Refuse what is no number for a setting that is nothing else.

    A file or a command line may give anything, and a type's own checks count on a number.
    """
    kinds = set(get_args(field.type) or (field.type,)) - {NoneType}
    if not kinds <= {int, float} or (value is None and NoneType in get_args(field.type)):
        return
    fits = (int, float) if float in kinds else int
    if not isinstance(value, fits) or isinstance(value, bool):
        wanted = "a number" if float in kinds else "a whole number"
        raise SidestepError(f"{field.name} of {name} is {value!r}; give {wanted}")


def check_settings(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse settings that the method of that name does not have."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SidestepError(
            f"{name} has no setting {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _plain(value: Any) -> Any:
    """JSON knows lists and no tuples."""
    if is_dataclass(value):
        return as_dict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _rich(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    return tuple(_rich(v) for v in value) if isinstance(value, list) else value
