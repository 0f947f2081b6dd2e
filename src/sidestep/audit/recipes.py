"""Similarity recipes by the name that a person types, and the one that an index was made with."""

import inspect
from types import NoneType
from typing import Any, get_args

from sidestep import registry
from sidestep.audit.index import Index
from sidestep.errors import SidestepError
from sidestep.similarity.base import Recipe
from sidestep.similarity.structured import Structured


def recipe(name: str, **settings: Any) -> Recipe:
    """The recipe of a registry name with its settings, such as `pixels`, side=16.

    Raises:
        SidestepError: there is none of that name, or it has or lacks another setting.
        MissingExtra: a package that it needs is not installed.
        BadModel: a file of weights is missing or another one.
        ValueError: a setting has no such value.
    """
    kind = registry.get(name, "similarity").load()
    known = inspect.signature(kind).parameters
    missing = [n for n, p in known.items() if p.default is p.empty and n not in settings]
    wrong = [n for n in settings if n not in known]
    if missing or wrong:
        what = f"lacks {', '.join(missing)}" if missing else f"has no {', '.join(wrong)}"
        raise SidestepError(
            f"the recipe {name} {what}; its settings are {', '.join(known)}, given as "
            f"{name}:{next(iter(known), 'key')}=value,..."
        )
    for setting, value in settings.items():
        _check(f"{setting} of {name}", known[setting].annotation, value)
    made: Recipe = kind(**settings)
    return made


def _check(what: str, annotation: Any, value: Any) -> None:
    """Refuse what is of another kind: a command line may give anything, also NaN."""
    kinds = get_args(annotation) or (annotation,)
    if value is None and NoneType in kinds:
        return
    if int in kinds and (not isinstance(value, int) or isinstance(value, bool)):
        raise SidestepError(f"{what} is {value!r}; give a whole number")
    if str in kinds and isinstance(value, int | float):
        raise SidestepError(
            f'{what} is {value!r}; give a text, in quotes as JSON: {{"name": ..., "key": "text"}}'
        )


def recipe_of(index: Index, given: Recipe | None = None) -> Recipe:
    """The recipe that an index was made with: the given one, or the one that its name makes.

    Raises:
        SidestepError: it is none that a name alone makes.
        BadRecords: the name makes one of other settings, or its model has changed since.
        MissingExtra: a package that it needs is not installed.
    """
    made = recipe(_name(index)) if given is None else given
    if index.settings.tiles is not None:
        made = Structured(made)
    if given is None and made.name != index.settings.recipe:
        raise SidestepError(
            f"the index in {index.folder} is of {index.settings.recipe}, which needs settings; say "
            "them with --recipe, as for the index"
        )
    index.check_recipe(made)
    return made


def _name(index: Index) -> str:
    of = index.settings.recipe
    names = [e.name for e in registry.entries("similarity") if of.startswith(f"{e.name}-")]
    if not names:
        raise SidestepError(
            f"the index in {index.folder} is of {of}, which no registered name makes; search it "
            "from Python with Index.search"
        )
    return names[0]
