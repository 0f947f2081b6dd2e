"""What an audit found, as data: audit.json is this and nothing else, and the report reads it.

Shares lie in [0, 1], their bounds are Clopper-Pearson's at 95 %. Times are diffusion times, 1 =
noise. File names are relative to the bundle. Nothing here names a machine or a person but for what
the auditor wrote.
"""

from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from sidestep.audit import canonical
from sidestep.errors import BadRecords
from sidestep.similarity.intervals import clopper_pearson

FILE = "audit.json"
VERSION = 1
State = Literal["pass", "finding", "inconclusive"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the evidence: fixed fields, none of them unknown."""


class Share(Part, frozen=True):
    """Copies among pictures."""

    copies: int
    of: int
    share: float
    low: float
    high: float

    @classmethod
    def count(cls, copies: int, of: int) -> Self:
        """The share of `copies` in `of`, at least one."""
        low, high = clopper_pearson(copies, of)
        return cls(copies=copies, of=of, share=copies / of, low=low, high=high)


class Scope(Part, frozen=True):
    """What was asked, by whom, and what was not looked at."""

    question: str
    context: str  # how the model is released, as the auditor says
    auditor: str
    created: str  # when the audit began, UTC
    tool: str  # name and version
    command: str  # without paths of a machine
    tested: tuple[str, ...]
    not_tested: tuple[str, ...]


class Verdict(Part, frozen=True):
    """The answer."""

    state: State
    reasons: tuple[str, ...]
    settle: tuple[str, ...]  # what would settle it, where it is inconclusive
    level: float  # share of copies that the auditor accepts
    share: Share | None  # of the pictures made for captions of the training set


class ModelFacts(Part, frozen=True):
    """What was audited."""

    name: str
    sha256: str  # of its weights, those of a LoRA included
    lora: str | None
    method: str  # label of the guidance, with mitigations, that was audited
    settings: dict[str, Any]
    steps: int
    scale: float
    sampler: str
    resolution: tuple[int, int]
    precision: str

    @property
    def title(self) -> str:
        """Its name, with the LoRA on it and a weight that is not 1."""
        if self.lora is None:
            return self.name
        return f"{self.name} with the LoRA {self.lora.removesuffix(' x 1')}"


class TrainingFacts(Part, frozen=True):
    """The training pictures as indexed."""

    source: str
    pictures: int
    readable: int
    unreadable: dict[str, int]  # by reason
    index_sha256: str  # stands for every byte of the index, so for every picture's hash
    duplicate_similarity: float  # from which two pictures are near-duplicates
    levels: dict[str, int]  # pictures by how often they are in the set


class PromptFacts(Part, frozen=True):
    """The prompts that were sampled."""

    source: str
    sha256: str  # of the sampled prompts, one a line
    captions: int  # different captions of the training set
    sampled: int
    chosen: str  # in words, how they were chosen where not all were sampled
    draws: int  # pictures of each
    seed: int
    ordinary: int
    ordinary_source: str
    empty: int  # pictures without a prompt


class Positive(Part, frozen=True):
    """Training pictures, edited as a model might give them back, that the search must find."""

    edit: str
    found: Share  # the right picture, above the threshold


class SearchFacts(Part, frozen=True):
    """How similarity is measured and what a copy is."""

    recipe: str
    fingerprint: str
    side: int
    exact: bool
    calibration: dict[str, Any]  # of sidestep.similarity.calibration
    controls: int
    controls_source: str
    positives: tuple[Positive, ...]
    # Generated pictures called copies of never-trained ones: what chance and prompts alone give.
    negative: Share | None


class Group(Part, frozen=True):
    """A share of copies under a name: a prompt, a draw, a level of duplication."""

    name: str
    share: Share


class Results(Part, frozen=True):
    """Copies among the pictures of the audited setting."""

    kinds: tuple[Group, ...]  # captions, ordinary prompts, no prompt
    prompts: tuple[Group, ...]  # those with a copy, most first
    draws: tuple[Group, ...]
    levels: tuple[Group, ...]  # of the captions, by how often their picture is in the training set
    similarity_median: float
    similarity_p95: float
    control_median: float
    local: Share | None = None  # hold a part of a training picture, of those that are no copies


class TrainingPicture(Part, frozen=True):
    """A picture of the training set."""

    id: str
    path: str  # in the collection
    sha256: str
    caption: str | None
    times: int  # near-duplicates of it in the set, itself included
    picture: str | None = None  # file in the bundle


class Exhibit(Part, frozen=True):
    """A generated picture, and how to make it again."""

    prompt: str
    draw: int
    seed: str | None  # in digits: numbers of JSON end at 2^53. None where an edition leaves it out
    similarity: float
    picture: str | None
    command: str | None
    window: str | None = None  # of a local copy, where it is in both, in percent


class Finding(Part, frozen=True):
    """A training picture that the model gives back."""

    training: TrainingPicture
    prompts: tuple[Group, ...]  # that it came back for
    similarity: float  # highest
    exhibits: tuple[Exhibit, ...]  # the closest first
    local: bool = False  # a part of the picture only
    confirmed: Share | None = None  # its prompts under the recommended setting, new seeds


class Change(Part, frozen=True):
    """A mean difference to the audited setting over the same seeds, with its 95 % interval."""

    mean: float
    low: float
    high: float


class Tried(Part, frozen=True):
    """A rule or a mitigation, tried on the findings with the same seeds."""

    label: str
    name: str
    settings: dict[str, Any]
    unfit: str | None = None  # why it was not tried, as a sentence
    findings: Share | None = None
    p_value: float | None = None  # McNemar's exact test against the audited setting
    agreement: Change | None = None  # with the prompt, on findings
    ordinary: Change | None = None  # with the prompt, on ordinary prompts
    change: float | None = None  # mean distance to the audited setting's ordinary pictures
    nfe: float | None = None  # network evaluations per picture
    backward: float | None = None  # passes backward per picture
    enough: bool = False  # brings copies to the asked level
    confirmed: Share | None = None  # from new seeds, for the cheapest of those that were enough


class Recommendation(Part, frozen=True):
    """The cheapest setting that was enough, and whether new seeds confirm it."""

    label: str
    name: str
    settings: dict[str, Any]
    why: str
    seed: int  # of the confirmation
    before: Share  # the audited setting, on the prompts and seeds that it was chosen by
    confirmed: Share
    holds: bool
    python: str  # the lines that use it
    command: str  # the audit with it on


class Edition(Part, frozen=True):
    """What makes evidence a redacted edition of other evidence."""

    mode: Literal["blur", "hashes"]
    full: str  # SHA-256 of SHA256SUMS of the full bundle


class Evidence(Part, frozen=True):
    """Everything an audit has to say."""

    scope: Scope
    verdict: Verdict
    limits: tuple[str, ...]
    model: ModelFacts
    training: TrainingFacts
    prompts: PromptFacts
    search: SearchFacts
    results: Results
    findings: tuple[Finding, ...]
    tried: tuple[Tried, ...]
    recommendation: Recommendation | None
    agreement: str | None  # what measures agreement with the prompt
    records: dict[str, str]  # by part of the audit, the file with a line for every picture of it
    versions: dict[str, str]
    edition: Edition | None = None  # None = all of it
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """As audit.json holds it: canonical JSON."""
        return canonical.to_bytes(msgspec.to_builtins(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The evidence of a bundle; BadRecords where there is none or it is of another version."""
        path = folder / FILE
        try:
            return msgspec.convert(canonical.from_bytes(path.read_bytes()), cls)
        except (OSError, ValueError) as error:
            raise BadRecords(
                f"{path} is not what `sidestep audit` of this version writes ({error}); give the "
                "folder of an audit"
            ) from error
