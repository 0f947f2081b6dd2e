"""What an audit is asked: the model, the pictures, and how much of everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidestep.runs.generate import Calling, Denoising, Method
from sidestep.runs.score import TextRecipe
from sidestep.similarity.agreement import Prototypes
from sidestep.similarity.base import Images, Recipe
from sidestep.sources.base import Collection


class Facts(Protocol):
    """What an audit says of a model, and its autoencoder."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all weights that make its pictures."""
        ...

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height of its pictures in pixels."""
        ...

    @property
    def precision(self) -> str:
        """Of its weights: float32, float16 or bfloat16."""
        ...

    def reconstruct(self, images: Images) -> Images:
        """Pictures (B, H, W, 3) as encoding and decoding leave them."""
        ...


class _Loop(Denoising, Facts, Protocol):
    pass


class _Pipeline(Calling, Facts, Protocol):
    pass


Audited = _Loop | _Pipeline  # a model that can be audited: it samples, and says what it is


@dataclass(frozen=True)
class Subject:
    """The model, as it is used, and what to call it."""

    model: Audited
    name: str
    method: Method  # the guidance, with mitigations, that it is used with
    lora: str | None = None  # what to call its LoRA
    lora_scale: float = 1.0
    # The same without its LoRA: its pictures are controls where no others are given.
    base: Audited | None = None
    loading: tuple[str, ...] = ()  # options of a command that load it as it was, beside a LoRA's


@dataclass(frozen=True)
class Material:
    """The pictures and prompts; sources are names for the report, without a machine's paths."""

    images: Collection
    source: str
    recipe: Recipe
    side: int  # pixels of the centre square that pictures are compared at
    controls: Collection | None  # never-trained pictures; None = the base model's pictures
    controls_source: str
    ordinary: Sequence[str]
    ordinary_source: str
    prompts: Sequence[str] | None = None  # None = the captions of the training pictures
    prompts_source: str = "captions of the training pictures"
    texts: tuple[TextRecipe, ...] = ()
    concepts: Mapping[str, str] = field(default_factory=dict)  # by prompt, where they are known
    prototypes: Prototypes | None = None


@dataclass(frozen=True)
class Request:
    """How much of everything, and what for."""

    captions: int = 200  # sampled at most
    draws: int = 4  # pictures of each caption
    ordinary: int = 24  # ordinary prompts at most, one picture each
    empty: int = 16  # pictures without a prompt
    seed: int = 0
    steps: int = 50
    batch: int = 16
    rate: float = 0.01  # share of never-trained pictures that may pass for copies
    level: float = 0.05  # share of copies that is accepted
    tiles: int | None = None  # windows a side, where parts of pictures are looked for; None = not
    duplicate: float | None = None  # similarity of near-duplicates; None = the threshold
    tries: tuple[str, ...] = ("all",)  # registry names of what is tried on findings
    tried_prompts: int = 24  # at most, of those that gave copies
    tried_draws: int = 2
    question: str = "Does the model give pictures of its training set back?"
    context: str = "not stated"
    auditor: str = "not stated"

    def __post_init__(self) -> None:
        """Refuse numbers that make no audit."""
        for name in ("captions", "draws", "steps", "batch", "tried_prompts", "tried_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("ordinary", "empty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("rate", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; batches change no picture and are left out."""
        return {k: v for k, v in vars(self).items() if k != "batch"} | {"tries": list(self.tries)}
