"""Scenarios from their files, and what is wrong with a file as a sentence.

Those of the package lie in `scenarios/`.
"""

import difflib
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidestep import registry
from sidestep.bench.scenario import Scenario
from sidestep.errors import BadScenario, SidestepError

FORMAT = 1  # of the files that this version reads


def names() -> list[str]:
    """The scenarios of the package."""
    found = (f.name for f in files(__package__).joinpath("scenarios").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def load(name_or_path: str | Path) -> Scenario:
    """A scenario of the package by name, or any by the path of its TOML file.

    Raises BadScenario for a name that does not exist and a file that cannot be a scenario, and
    SidestepError for a method or recipe that the registry does not have.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        where = str(path)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise BadScenario(
                f"{path} cannot be read ({(error.strerror or str(error)).lower()}); check the path"
            ) from error
    elif (name := str(name_or_path)) in names():
        where = f"scenario {name}"
        raw = files(__package__).joinpath("scenarios", f"{name}.toml").read_bytes()
    else:
        hint = _did_you_mean(name, names())
        raise BadScenario(f"there is no scenario {name!r}; {hint}, or the path of a .toml file")
    try:
        given = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadScenario(f"{where} is not TOML in UTF-8: {error}") from error
    if given.get("format") != FORMAT:
        raise BadScenario(
            f"{where} has format {given.get('format', '(none)')}; this version reads format "
            f"{FORMAT}. Read it with the version it was written for"
        )
    try:
        scenario = msgspec.convert(given, Scenario)
    except msgspec.ValidationError as error:
        raise BadScenario(_sentence(where, str(error))) from error
    try:
        for compared in scenario.methods:
            registry.get(compared.name, *registry.GUIDES)
        for recipe in (scenario.metric.decides, *scenario.metric.beside):
            if isinstance(recipe, str):
                registry.get(recipe, "similarity")
    except SidestepError as error:
        raise BadScenario(f"{where}: {error}") from error
    return scenario


def _structures(of: Any) -> set[type[msgspec.Struct]]:
    """The structures of a type, and those inside of them."""
    own = _outer(of)
    inner = (field.type for s in own for field in msgspec.structs.fields(s))
    return own.union(*(_structures(t) for t in inner))


def _outer(of: Any) -> set[type[msgspec.Struct]]:
    """The structures that a value of a type may be, or a list of it hold."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return {of}
    return set().union(*(_outer(t) for t in get_args(of)))


def _at(place: str) -> set[type[msgspec.Struct]]:
    """The structures that may stand at a place of a scenario, such as `methods[3]`."""
    here: set[type[msgspec.Struct]] = {Scenario}
    for name in re.findall(r"[a-z_]+", place):
        fields = (field for s in here for field in msgspec.structs.fields(s))
        here = set().union(*(_outer(field.type) for field in fields if field.name == name))
    return here


def _choices() -> dict[str, list[str]]:
    """What a field with few values may say."""
    words, tags = dict[str, list[str]](), dict[str, list[str]]()
    for structure in _structures(Scenario):
        for field in msgspec.structs.fields(structure):
            if get_origin(field.type) is Literal:
                words[field.name] = [*get_args(field.type)]
        config = structure.__struct_config__
        if config.tag is not None:
            tags.setdefault(str(config.tag_field), []).append(str(config.tag))
    return words | tags


def _sentence(where: str, said: str) -> str:
    """What msgspec says, as a sentence with the nearest name."""
    what, _, place = said.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    where = f"{where}, {place}" if place else where
    if unknown := re.fullmatch("Object contains unknown field `(.*)`", what):
        known = {f.name for s in _at(place) for f in msgspec.structs.fields(s)}
        return f"{where}: there is no field {unknown[1]!r}; {_did_you_mean(unknown[1], known)}"
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return f"{where}: the field {missing[1]!r} is missing"
    if wrong := re.fullmatch("Invalid (?:enum )?value '(.*)'", what):
        known = set(_choices().get(place.rpartition(".")[2], ()))
        return f"{where} is {wrong[1]!r}; {_did_you_mean(wrong[1], known)}"
    return f"{where}: {what[0].lower()}{what[1:].replace('`', '')}"


def _did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
