"""Scenarios are data: what is sampled, with what settings, and what others measured on it.

A scenario is a TOML file of these structures; docs/scenarios.md explains every field. Those of the
package lie in `scenarios/`.
"""

import difflib
import hashlib
import re
import tomllib
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidestep import registry
from sidestep.bench.sources import formats
from sidestep.errors import BadScenario, SidestepError

FORMAT = 1  # of the files that this version reads
Confidence = Literal["high", "medium", "low"]
Solver = Literal["dpm-solver++2m"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a scenario; unknown fields are refused."""


class Need(Part, frozen=True, kw_only=True):
    """A file or folder that the user brings: what it is and where it comes from."""

    path: str  # relative to the data folder
    what: str
    origin: str
    licence: str
    optional: str | None = None  # what is lost without it; None = nothing runs without it


class EmbeddedModel(Part, frozen=True, kw_only=True, tag_field="kind", tag="embedded"):
    """The model that comes with Sidestep."""


class StableDiffusionModel(
    Part, frozen=True, kw_only=True, tag_field="kind", tag="stable-diffusion"
):
    """A StableDiffusionPipeline folder, or the same on the Hub where the folder is not there."""

    path: str
    hub: str | None = None
    unet: str | None = None  # a folder whose UNet takes the place of the pipeline's


class Embedded(Part, frozen=True, kw_only=True, tag_field="format", tag="embedded"):
    """Captions of the embedded model: its targets, and ordinary ones over its vocabulary."""

    targets: formats.Count
    target_draws: formats.Count
    ordinary: formats.Count
    ordinary_draws: formats.Count


class References(Part, frozen=True, kw_only=True):
    """The training images: every image file below a folder."""

    path: str


class Sampling(Part, frozen=True, kw_only=True):
    """How every picture is made."""

    solver: Solver
    steps: formats.Count
    scale: float  # of guidance, where a method leaves it open
    resolution: formats.Count  # pixels
    seed: int


class SSCD(Part, frozen=True, kw_only=True):
    """The authors' SSCD weights, a file the user brings, with the preprocessing of a paper."""

    path: str
    weights: Literal["disc_mixup", "disc_large"]
    preset: Literal["official", "official-320", "dcr", "membench"]
    sha256: str | None = None  # that the file must have; nobody publishes one of disc_large

    @property
    def name(self) -> str:
        """As `similarity.sscd_published` names it."""
        return f"sscd-{self.weights.replace('_', '-')}-{self.preset}"


class Text(Part, frozen=True, kw_only=True):
    """A CLIP for the CLIP score: a folder, or the same on the Hub where its local cache has it."""

    path: str
    hub: str | None = None


class Metric(Part, frozen=True, kw_only=True):
    """What pictures are measured with, and above which similarity a picture is a copy."""

    decides: str | SSCD  # a name in the registry, or published weights
    beside: tuple[str | SSCD, ...] = ()  # reported too, where they are there
    text: tuple[Text, ...] = ()  # reported too, where they are there
    cut: float | None = None  # None = calibrated on pictures that were never trained on
    cut_source: str | None = None


class Compared(Part, frozen=True, kw_only=True):
    """A method of the comparison; each of its strengths is a row of the tables."""

    label: str
    name: str  # in the registry
    strengths: tuple[dict[str, Any], ...] = ({},)  # settings, as `bench.generate.method` takes them


class PublishedRow(Part, frozen=True, kw_only=True):
    """What somebody published about one method."""

    method: str  # a label of the scenario or of one of its rows, or one that it does not run
    values: dict[str, float]  # by metric
    confidence: Confidence
    note: str = ""


class Published(Part, frozen=True, kw_only=True):
    """Numbers of others, kept in the header of a run."""

    table: str
    recipes: dict[str, str]  # by metric, what measured it; other recipes do not compare
    rows: tuple[PublishedRow, ...]

    def __post_init__(self) -> None:
        """Refuse a number without its recipe."""
        for row in self.rows:
            if bare := set(row.values) - set(self.recipes):
                raise ValueError(f"recipes does not say what measured {min(bare)!r}")


class Scenario(Part, frozen=True, kw_only=True):
    """A whole scenario."""

    format: int
    name: str
    title: str
    version: formats.Count  # of its content: records of different versions are not mixed
    source: str
    notes: tuple[str, ...] = ()
    model: EmbeddedModel | StableDiffusionModel
    prompts: (
        Embedded
        | formats.Webster
        | formats.Captions
        | formats.Pairs
        | formats.Classes
        | formats.Lines
        | formats.Table
    )
    references: References | None = None
    sampling: Sampling
    metric: Metric
    methods: tuple[Compared, ...]
    published: Published | None = None
    needs: tuple[Need, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the fields one by one cannot show to be wrong."""
        if not self.methods:
            raise ValueError("there are no methods; a comparison needs at least one")
        labels = [m.label for m in self.methods]
        if twice := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(f"the label {min(twice)!r} comes twice; each row needs its own")
        own = isinstance(self.model, EmbeddedModel)
        if own != isinstance(self.prompts, Embedded) or own != (self.references is None):
            raise ValueError(
                "the embedded model has captions and training pictures of its own: model, prompts "
                "and references must all be embedded, or none of them"
            )
        if own != (self.metric.cut is None):
            raise ValueError(
                "metric.cut is calibrated for the embedded model and a published number elsewhere; "
                "leave it out there, and give it here"
            )
        known = {need.path for need in self.needs}
        loose = {need.path for need in self.needs if need.optional is not None}
        if isinstance(self.metric.decides, SSCD) and self.metric.decides.path in loose:
            raise ValueError("nothing runs without what decides; its need cannot be optional")
        for path in self.paths():
            if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
                raise ValueError(f"the path {path!r} leads out of the data folder")
            if not any(PurePosixPath(path).is_relative_to(k) for k in known):
                raise ValueError(f"needs does not say where {path!r} comes from")

    def paths(self) -> list[str]:
        """What the scenario reads, relative to the data folder."""
        found: list[str | None] = []
        if isinstance(self.model, StableDiffusionModel):
            found += [self.model.path, self.model.unet]
        if not isinstance(self.prompts, Embedded):
            found += [self.prompts.path, getattr(self.prompts, "types", None)]
        if isinstance(self.prompts, formats.Classes):
            found += [f"{self.prompts.path}/{folder}" for folder in self.prompts.names]
        found += [self.references.path if self.references else None]
        metric = self.metric
        found += [r.path for r in (metric.decides, *metric.beside) if isinstance(r, SSCD)]
        found += [one.path for one in metric.text]
        return [path for path in found if path is not None]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything the scenario says."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


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
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        inner = (field.type for field in msgspec.structs.fields(of))
        return {of}.union(*(_structures(t) for t in inner))
    return set().union(*(_structures(t) for t in get_args(of)))


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
        known = {f.name for s in _structures(Scenario) for f in msgspec.structs.fields(s)}
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
