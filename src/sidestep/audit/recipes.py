"""Similarity recipes by the name that a person types, and the one that an index was made with."""

from sidestep import registry
from sidestep.audit.index import Index
from sidestep.errors import SidestepError
from sidestep.similarity.base import Recipe
from sidestep.similarity.structured import Structured


def recipe(name: str) -> Recipe:
    """The recipe of a registry name, with its default settings.

    Raises:
        SidestepError: there is none of that name, or it needs a file of weights.
        MissingExtra: a package that it needs is not installed.
    """
    entry = registry.get(name, "similarity")
    if name == "sscd-published":
        raise SidestepError(
            "sscd-published needs a file of weights, which only Python can name: give a "
            "PublishedSSCD to sidestep.audit.build.build_index"
        )
    made: Recipe = entry.load()()
    return made


def recipe_of(index: Index) -> Recipe:
    """The recipe that an index was made with.

    Raises:
        SidestepError: it is none that a name alone makes.
        BadRecords: the name makes one of other settings, or its model has changed since.
        MissingExtra: a package that it needs is not installed.
    """
    names = [e.name for e in registry.entries("similarity")]
    of = index.settings.recipe
    found = next((n for n in names if of.startswith(f"{n}-")), None)
    if found is None:
        raise SidestepError(
            f"the index in {index.folder} is of {of}, which no registered name makes; search it "
            "from Python with Index.search"
        )
    made = recipe(found)
    if index.settings.tiles is not None:
        made = Structured(made)
    index.check_recipe(made)
    return made
