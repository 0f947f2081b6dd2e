"""What every mitigation gets and gives.

A mitigation is a frozen object with `begin(start) -> start`. It sees a run before its first step
and gives back a changed one: other embeddings, another first noise, a denoiser that answers
differently, a hook after each step. What it gives back is new and nothing is installed anywhere,
so there is nothing to restore; mitigations compose by beginning one after the other.

Shapes: B samples, latents of shape S. Every sample is alone: its own seed, target and outcome, so
a batch equals its singles.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, cast

import torch
from torch import Tensor

from sidestep.errors import SidestepError
from sidestep.guidance.base import Needs, Prediction
from sidestep.guidance.denoiser import Denoiser, Level
from sidestep.mitigations.text import AttentionEdit, Text, TextDenoiser, TextModel


class Unfit(SidestepError):
    """The model lacks what a mitigation is defined on."""


class Outcome(NamedTuple):
    """What a mitigation did before the first step, per sample."""

    name: str  # in the registry
    reached: Tensor  # (B,) bool: its target was met, or it has none
    nfe: Tensor  # (B,) int64, network evaluations it made
    backward: Tensor  # (B,) int64, passes backward through the network; each costs about two more


class Step(NamedTuple):
    """A step of the solver, for the hooks after it."""

    noise: Tensor  # (B, *S) the noise prediction that was followed
    x: Tensor  # (B, *S) the latents before it
    latent: Tensor  # (B, *S) the latents after it
    level: Level
    after: Level | None  # the level of `latent`, None after the last step


# After each step a hook may give back other latents, (B, *S). Samples may leave the batch between
# two steps, so it must treat each one alone.
After = Callable[[Step], Tensor]


@dataclass(frozen=True)
class Start:
    """A run before its first step."""

    denoiser: Denoiser
    x: Tensor  # (B, *S) first noise, at the first level
    levels: tuple[Level, ...]
    seeds: tuple[int, ...]  # one per sample; all randomness of a mitigation comes from them
    prompts: tuple[str, ...] = ()
    model: TextModel | None = None
    scale: float = 7.5  # the guidance scale of the run
    after: tuple[After, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    # What the run is made with, by name; a mitigation calibrated on other runs refuses this one.
    solver: str = ""
    network: str = ""

    def __post_init__(self) -> None:
        """Refuse seeds or prompts that are not one per sample, and a run without steps."""
        batch = len(self.x)
        if len(self.seeds) != batch or len(self.prompts) not in (0, batch):
            raise ValueError(
                f"a batch of {batch} came with {len(self.seeds)} seeds and {len(self.prompts)} "
                "prompts; give one of each per sample"
            )
        if not self.levels:
            raise ValueError("the run has no steps; give the noise levels it will visit")

    @property
    def text(self) -> Text:
        """The embeddings of the run. Raises Unfit if the denoiser has none."""
        return self.text_denoiser().text

    def text_denoiser(self) -> TextDenoiser:
        """The denoiser, as one whose embeddings can be exchanged; raises Unfit otherwise."""
        if not hasattr(self.denoiser, "with_text"):
            raise Unfit(
                f"{type(self.denoiser).__name__} has no prompt embeddings to change; this "
                "mitigation is defined for text-conditional networks only"
            )
        return cast(TextDenoiser, self.denoiser)

    def text_model(self) -> TextModel:
        """Tokenizer, text encoder and decoder around the network; raises Unfit without one."""
        if self.model is None or not self.prompts:
            raise Unfit(
                "the run has no prompts or no text model; this mitigation rewrites prompts or "
                "looks at pictures: pass `prompts` and `model` to Start"
            )
        return self.model

    def with_text(self, text: Text) -> "Start":
        """The run with other embeddings."""
        return self.with_denoiser(self.text_denoiser().with_text(text))

    def with_denoiser(self, denoiser: Denoiser) -> "Start":
        """The run with another denoiser."""
        return replace(self, denoiser=denoiser)

    def select(self, rows: Tensor) -> "Start":
        """Some samples of the batch, by index; without hooks, which are for whole batches."""
        return replace(
            self,
            denoiser=self.denoiser.select(rows),
            x=self.x[rows],
            seeds=_rows(self.seeds, rows),
            prompts=_rows(self.prompts, rows) if self.prompts else (),
            after=(),
            outcomes=(),
        )

    def with_prompts(self, prompts: Sequence[str]) -> "Start":
        """The run with other prompts and their embeddings; earlier changes of these are lost."""
        text = self.text_model().embed(prompts)
        return replace(self.with_text(text), prompts=tuple(prompts))

    def done(
        self, name: str, reached: Tensor | None = None, nfe: Any = 0, backward: Any = 0
    ) -> "Start":
        """The run with what a mitigation of that name did noted down; numbers count for all."""
        device, batch = self.x.device, len(self.x)

        def each(value: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(value, dtype=dtype, device=device).expand(batch).clone()

        met = each(True if reached is None else reached, torch.bool)
        note = Outcome(name, met, each(nfe, torch.int64), each(backward, torch.int64))
        return replace(self, outcomes=(*self.outcomes, note))


class Mitigation(Protocol):
    """A change to a run. Implementations are frozen dataclasses, neutral at some strength."""

    name: ClassVar[str]  # in the registry

    def begin(self, start: Start) -> Start:
        """The changed run, with one more outcome. Raises Unfit for a model it cannot work on."""
        ...


def begin(mitigations: Sequence[Mitigation], start: Start) -> Start:
    """Every mitigation in order: a prompt changed first is what a later noise is fitted to."""
    for mitigation in mitigations:
        start = mitigation.begin(start)
    return start


@dataclass(frozen=True)
class Wrapped:
    """A denoiser around another; the base of those that change predictions step by step.

    Fields named in `per_sample` hold one entry per sample and go along when samples are selected.
    """

    inner: TextDenoiser
    per_sample: ClassVar[tuple[str, ...]] = ()

    @property
    def text(self) -> Text:
        """The embeddings of the network inside."""
        return self.inner.text

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """The answer of the network inside."""
        return self.inner(x, level, needs)

    def select(self, rows: Tensor) -> Self:
        """The denoiser of some samples of the batch, by index."""
        own = {name: _rows(getattr(self, name), rows) for name in self.per_sample}
        return replace(self, inner=self.inner.select(rows), **own)

    def with_text(self, text: Text) -> Self:
        """The same wrapper around the network with other embeddings."""
        return replace(self, inner=self.inner.with_text(text))

    def with_attention(self, edit: AttentionEdit) -> Self:
        """The same wrapper around the network with changed cross-attention."""
        return replace(self, inner=self.inner.with_attention(edit))


def _rows(values: Any, rows: Tensor) -> Any:
    if isinstance(values, Tensor):
        return values[rows]
    if hasattr(values, "select"):  # a text or a denoiser
        return values.select(rows)
    return tuple(values[i] for i in torch.arange(len(values))[rows.cpu()].tolist())


def check_finite(**values: float) -> None:
    """Refuse a setting, given by its name, that is not a finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number")


def check_gradients(name: str) -> None:
    """Refuse to begin a mitigation that needs gradients where torch records none."""
    if torch.is_inference_mode_enabled():
        raise SidestepError(
            f"{name} needs gradients and torch.inference_mode records none; "
            "call it under torch.no_grad instead"
        )


def check_flow(values: Tensor, network: object, to: str) -> None:
    """Raise Unfit unless what was computed with a network has gradients to flow back."""
    if not values.requires_grad:
        raise Unfit(
            f"{type(network).__name__} lets no gradients through to its {to}; this mitigation is "
            "for networks that torch can differentiate"
        )


def scaled(prediction: Prediction, wanted: Tensor, scale: float, extra: Tensor | int) -> Prediction:
    """The prediction under which guidance of that scale follows the noise `wanted`, (B, *S).

    `uncond + scale (cond' - uncond) = wanted` gives `cond'`. So a mitigation with a formula of its
    own for the guided noise works beneath any rule, and a rule that withholds guidance withholds
    the formula too. `extra` is how many more evaluations it took, (B,) or one number. Raises
    ValueError at scale 0, where nothing of `cond'` is left.
    """
    if scale == 0:
        raise ValueError(
            "the run has the guidance scale 0, so its conditional prediction is not followed and "
            "a formula for the guided noise has no place; give Start a scale above 0"
        )
    cond = prediction.uncond + (wanted - prediction.uncond) / scale
    return Prediction(prediction.uncond, cond, prediction.time, prediction.extra + extra)
