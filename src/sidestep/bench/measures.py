"""What a scenario measures pictures with: similarity recipes and image-text scores."""

from pathlib import Path

from sidestep import registry
from sidestep.adapters import checkpoints
from sidestep.adapters.clip import CLIPScore
from sidestep.bench.scenario import SSCD, Metric, Text
from sidestep.errors import BadData, MissingExtra
from sidestep.runs.score import TextRecipe
from sidestep.similarity.base import Recipe

CONFIG = "config.json"  # of a single model, which has no index of parts


def recipe(named: str | SSCD, data: Path | None, device: str = "cpu") -> Recipe:
    """The recipe of a registry name, or of published weights in the data folder.

    Raises MissingExtra for a package that is not installed, BadModel for weights that are missing
    or other ones, and BadData for weights without a data folder.
    """
    if isinstance(named, str):
        made: Recipe = registry.get(named, "similarity").load()()
        return made
    if data is None:
        raise BadData(f"{named.name} needs the file {named.path}; give its folder with --data")
    from sidestep.similarity.sscd_published import PublishedSSCD

    return PublishedSSCD(
        data / named.path, named.weights, named.preset, sha256=named.sha256, device=device
    )


def recipes(
    metric: Metric, data: Path | None, device: str = "cpu"
) -> tuple[list[Recipe], list[str]]:
    """The recipes that can be loaded, the deciding one first, and a note for each that cannot.

    What decides is never replaced by something else: without it this raises as `recipe` does.
    """
    found, notes = [recipe(metric.decides, data, device)], list[str]()
    for named in metric.beside:
        if isinstance(named, SSCD) and data is not None and not (data / named.path).exists():
            notes.append(f"Numbers of {named.name} are missing: there is no {named.path}.")
            continue
        try:
            found.append(recipe(named, data, device))
        except MissingExtra as error:
            notes.append(f"Numbers of {named} are missing: {error}")
    return found, notes


def texts(
    metric: Metric, data: Path, device: str = "cpu"
) -> tuple[tuple[TextRecipe, ...], list[str]]:
    """The CLIP scores whose model is there, and a note for each whose model is not.

    Raises BadModel for a model that is there and cannot be loaded.
    """
    found, notes = list[TextRecipe](), list[str]()
    for one in metric.text:
        source = source_of(one, data)
        if source is None:
            notes.append(
                f"There is no CLIP score of {one.hub or one.path}: the data folder has no "
                f"{one.path}."
            )
        else:
            found.append(CLIPScore(source, device=device))
    return tuple(found), notes


def source_of(one: Text, data: Path) -> Path | str | None:
    """Where a CLIP is: its folder, its id in the Hub's local cache, or None."""
    folder = data / one.path
    if folder.is_dir():
        return folder
    return one.hub if one.hub is not None and checkpoints.cached(one.hub, CONFIG) else None
