"""Whether a scenario can run: what is there, what is missing and where it comes from.

Nothing is fetched and nothing is copied: most of the data may not be passed on.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sidestep.adapters import checkpoints
from sidestep.bench import measures
from sidestep.bench.materials import image_folder, read_prompts
from sidestep.bench.scenario import (
    SSCD,
    Embedded,
    Need,
    Scenario,
    StableDiffusionModel,
)
from sidestep.errors import BadData, BadModel, MissingExtra
from sidestep.runs.generate import Report, silent
from sidestep.sources import pictures

State = Literal["ready", "missing", "damaged"]


@dataclass(frozen=True)
class Item:
    """One thing the scenario needs."""

    path: str  # relative to the data folder
    what: str
    state: State
    says: str  # what was found, or what to do
    origin: str
    licence: str
    optional: bool = False


@dataclass(frozen=True)
class Readiness:
    """The answer of `prepare`."""

    scenario: str
    version: int
    data: str | None
    items: tuple[Item, ...]
    prompts: int | None = None  # in the list that was found; None = there is none to read
    prompts_published: int | None = None
    prompts_with_reference: int | None = None  # with at least one readable image of their own
    prompts_by_form: dict[str, int] | None = None  # verbatim, template, unknown
    references: int | None = None  # readable reference images
    unreadable: tuple[pictures.Unreadable, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether a run has everything it cannot do without, and nothing that would stop it."""
        return all(i.state == "ready" or (i.optional and i.state == "missing") for i in self.items)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = [one._asdict() for one in self.unreadable]
        return asdict(self) | {"unreadable": files, "ready": self.ready}


def prepare(scenario: Scenario, data: Path | None = None, report: Report = silent) -> Readiness:
    """Look at the data of a scenario, every reference image included.

    Raises BadData when the scenario needs a data folder and none is given.
    """
    software = _software(scenario)
    if isinstance(scenario.prompts, Embedded):
        return Readiness(scenario.name, scenario.version, None, software)
    if data is None:
        raise BadData(f"{scenario.name} needs data; give the folder to look in with --data DIR")
    items = {need.path: _there(scenario, need, data) for need in scenario.needs}

    def spoilt(path: str, says: str) -> None:
        for name, item in items.items():
            if item.state == "ready" and Path(path).is_relative_to(name):
                items[name] = Item(**asdict(item) | {"state": "damaged", "says": says})

    for name in scenario.paths():
        if name not in items and not (data / name).exists():
            spoilt(name, f"{data / name} is not there; copy the whole folder")
    readable, refused = set[Path](), list[pictures.Unreadable]()
    images, folder = image_folder(scenario, data), scenario.references
    assert folder is not None
    every = len(pictures.files(images))
    for path, _ in pictures.read_all(images, 8, refused):
        readable.add(path)
        report("reference images", len(readable) + len(refused), every)
    if images.is_dir() and not readable:
        spoilt(folder.path, f"{images} has no readable image among {every}")
    counts: dict[str, Any] = {}
    wanted = scenario.prompts.count
    try:
        if (data / scenario.prompts.path).exists():
            counts = _counts(read_prompts(scenario, data), readable)
            if not counts["prompts"] or counts["prompts"] != (wanted or counts["prompts"]):
                published = f", and {wanted} were published" if wanted else ""
                spoilt(scenario.prompts.path, f"{counts['prompts']} prompts are there{published}")
    except BadData as error:
        named = [p for p in scenario.paths() if str(data / p) in str(error)]
        spoilt(max(named, key=len), str(error))
    return Readiness(
        scenario.name,
        scenario.version,
        str(data),
        (*items.values(), *software),
        prompts_published=wanted,
        references=len(readable) if images.is_dir() else None,
        unreadable=tuple(refused),
        **counts,
    )


def _there(scenario: Scenario, need: Need, data: Path) -> Item:
    path, model = data / need.path, scenario.model
    state: State = "ready" if path.exists() else "missing"
    says = "found" if path.exists() else f"put it at {path}"
    if isinstance(model, StableDiffusionModel) and need.path in (model.path, model.unet):
        state, says = _model(model, need.path, path)
    for text in (t for t in scenario.metric.text if t.path == need.path and not path.exists()):
        if text.hub is not None and measures.source_of(text, data) is not None:
            state, says = "ready", f"in the Hub's local cache, as {text.hub}"
        elif text.hub is not None:
            says += f", or fetch it with: hf download {text.hub}"
    for recipe in (scenario.metric.decides, *scenario.metric.beside):
        if isinstance(recipe, SSCD) and recipe.path == need.path and path.exists():
            state, says = _weights(recipe, data)
    if state == "missing" and need.optional is not None:
        says += f"; without it {need.optional}"
    return Item(
        need.path, need.what, state, says, need.origin, need.licence, need.optional is not None
    )


def _model(model: StableDiffusionModel, name: str, path: Path) -> tuple[State, str]:
    hub = model.hub if name == model.path else None
    if not path.exists():
        if hub is not None and checkpoints.cached(hub):
            return "ready", f"in the Hub's local cache, as {hub}"
        other = f", or fetch it with: hf download {hub}" if hub is not None else ""
        return "missing", f"put it at {path}{other}"
    if name == model.unet:
        parts = [] if (path / "config.json").is_file() else ["config.json"]
    else:
        # A UNet of its own takes the place of the pipeline's, which may then be absent.
        parts = [p for p in checkpoints.missing_parts(path) if p != "unet" or not model.unet]
    if parts:
        return "damaged", f"{path} has no {', no '.join(parts)}; copy it again"
    return "ready", "found"


def _weights(recipe: SSCD, data: Path) -> tuple[State, str]:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            measures.recipe(recipe, data)
    except BadModel as error:
        return "damaged", str(error)
    return "ready", "; ".join(["found", *dict.fromkeys(str(w.message) for w in said)])


def _software(scenario: Scenario) -> tuple[Item, ...]:
    """What has to be installed: for the pictures, and for what decides about copies."""
    wanted: list[tuple[str, Callable[[], Any]]] = [
        ("diffusers and transformers, to sample", checkpoints.check_installed)
    ]
    decides = scenario.metric.decides
    if isinstance(decides, str):
        wanted.append((f"the similarity recipe {decides}", partial(measures.recipe, decides, None)))
    found = []
    for what, load in wanted:
        try:
            load()
            state: State = "ready"
            says = "installed"
        except MissingExtra as error:
            state, says = "missing", str(error)
        found.append(Item("", what, state, says, "an optional package", "that of the package"))
    return tuple(found)


def _counts(prompts: Iterator[Any], readable: set[Path]) -> dict[str, Any]:
    number = own = 0
    forms = Counter[str]()
    for prompt in prompts:
        number += 1
        own += any(path in readable for path in prompt.own)
        forms[prompt.form or "unknown"] += 1
    return {"prompts": number, "prompts_with_reference": own, "prompts_by_form": dict(forms)}
