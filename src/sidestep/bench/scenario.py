"""Scenarios are data: what is sampled, with what settings, and what others measured on it.

A scenario is a TOML file of these structures, which `bench.loading` reads; docs/scenarios.md
explains every field.
"""

import hashlib
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from sidestep.bench.sources import formats

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
