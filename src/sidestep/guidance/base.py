"""What every guidance rule gets and gives.

A rule is a frozen object with `init() -> state` and `step(prediction, state) -> (guided, state)`.
Shapes: B samples of shape S; every field of a state is per sample, (B,).
"""

import math
from abc import ABC, abstractmethod
from ctypes import c_float
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


@dataclass(frozen=True)
class Prediction:
    """The network's two answers at one step, as noise predictions (B, *S).

    `time` is diffusion time in [0, 1], 1 = pure noise. A branch that a rule said it does not need
    may be the other branch itself (`cond is uncond`); the gap is then unknown, NaN. `extra` counts
    the network evaluations beyond one for each branch that was asked for, (B,) or one for all.
    """

    uncond: Tensor
    cond: Tensor
    time: float
    extra: Tensor | int = 0

    def __post_init__(self) -> None:
        """Refuse two answers of different shape and a time that is not a diffusion time."""
        if self.cond.shape != self.uncond.shape:
            raise ValueError(
                f"cond has shape {tuple(self.cond.shape)}, uncond {tuple(self.uncond.shape)}; "
                "they must be equal: pass both predictions of the same batch"
            )
        check_time("time", self.time)

    @cached_property
    def gap(self) -> Tensor:
        """L2 norm of `cond - uncond` per sample, (B,) float32, in noise-prediction units."""
        if self.cond is self.uncond:
            return torch.full((len(self.cond),), torch.nan, device=self.cond.device)
        return distance(self.cond, self.uncond).float()


def distance(one: Tensor, other: Tensor) -> Tensor:
    """L2 norm of `one - other` per sample, (B,), in float32 or, of float64, in float64."""
    # Subtract in float32: the norm of a half-precision difference overflows and rounds.
    wide = torch.promote_types(one.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm((one.to(wide) - other.to(wide)).flatten(1), dim=1)
    return norm


class Guided(NamedTuple):
    """The outcome of one step of a rule."""

    noise: Tensor  # (B, *S) the noise prediction to follow
    scale: Tensor  # (B,) float32, the scale that was applied
    on: Tensor  # (B,) bool, the transition lies at or behind this step
    fell_back: Tensor  # (B,) bool, it was a fallback time that turned guidance on


class Needs(NamedTuple):
    """Which predictions a rule asks for at a time; what is not needed is not computed."""

    uncond: bool = True
    cond: bool = True


BOTH = Needs()


class Rule(ABC, Generic[S]):
    """A guidance policy with explicit memory of type S. Implementations are frozen dataclasses."""

    @abstractmethod
    def with_scale(self, scale: float) -> "Rule[S]":
        """The rule with its caller's scale where it leaves one open; itself if it leaves none.

        What is left open is the scale from the transition on.
        """

    @abstractmethod
    def init(self, batch: int, device: torch.device | str = "cpu") -> S:
        """State before the first step, for `batch` samples."""

    @abstractmethod
    def needs(self, time: float) -> Needs:
        """The predictions this rule needs at that time."""

    def needs_each(self, time: float, batch: int) -> list[Needs]:
        """What each sample of a batch needs at that time; here all need what the rule needs."""
        return [self.needs(time)] * batch

    @abstractmethod
    def step(self, prediction: Prediction, state: S) -> tuple[Guided, S]:
        """Guide one step. Times must fall from call to call."""


def take(state: S, rows: Tensor) -> S:
    """The state of some samples of a batch, by index or mask; every field of it is (B,)."""
    if state is None:
        return state
    if isinstance(state, Tensor):
        return state[rows]  # type: ignore[return-value]
    return type(state)(*(field[rows] for field in state))  # type: ignore[attr-defined]


def combine(prediction: Prediction, scale: Tensor) -> Tensor:
    """`uncond + scale * (cond - uncond)` with one scale per sample, (B,).

    0 is unconditional, 1 conditional up to rounding, below 0 opposite guidance. Ho and Salimans,
    2022.
    """
    if prediction.cond is prediction.uncond:
        return prediction.uncond
    weight = scale.to(prediction.cond.dtype).view(-1, *[1] * (prediction.cond.ndim - 1))
    # Single operations, not a fused one: each rounds alike wherever a sample lies in the batch.
    return prediction.uncond + weight * (prediction.cond - prediction.uncond)


def check_batch(state: Tensor, prediction: Prediction) -> None:
    """Refuse a state, (B,), that was made for another batch than the prediction's."""
    if len(state) != len(prediction.cond):
        raise ValueError(
            f"the state is for {len(state)} samples and the prediction has "
            f"{len(prediction.cond)}; call init() once per batch"
        )


def check_scale(name: str, value: float) -> None:
    """Refuse a scale that is not a finite number."""
    if not math.isfinite(value):
        raise ValueError(
            f"{name} is {value}; a guidance scale must be a finite number, such as 7.5"
        )


def check_time(name: str, value: float) -> None:
    """Refuse a time outside [0, 1]."""
    if not 0 <= value <= 1:
        hint = f"; as a timestep of 1000 it would be {value / 1000}" if 1 < value <= 1000 else ""
        raise ValueError(f"{name} is {value}; diffusion time lies in [0, 1], 1 = noise{hint}")


def only(scale: float) -> Needs:
    """What a step at that one scale needs: 0 only uncond, 1 only cond, anything else both."""
    return Needs(uncond=scale != 1, cond=scale != 0)


def single(time: float) -> float:
    """Rounded to float32: 0.1 * 7 and 0.7 are one time, and a device without float64 holds it."""
    return c_float(time).value
