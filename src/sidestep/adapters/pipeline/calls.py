"""What every call of a guided pipeline has, whichever way it asks its network.

`before` and `after` of a `Call` stand around each call of the network: they may leave rows out and
change the answer. Nothing here touches a module.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.adapters.levels import Clock
from sidestep.adapters.pipeline.generation import Generation
from sidestep.adapters.pipeline.layouts import Layout
from sidestep.adapters.pipeline.rows import Arguments, argument, names_of
from sidestep.adapters.pipeline.savings import may_skip
from sidestep.guidance.base import Needs, Rule


class Skip(NamedTuple):
    """A network call that is not made, and the answer that stands in for it."""

    output: Any


class Call(ABC):
    """One call of a pipeline: its arguments, and the generation that is under way."""

    def __init__(
        self, pipe: Any, layout: Layout, rule: Rule[Any], arguments: dict[str, Any], skip: bool
    ) -> None:
        self.pipe, self.layout, self.rule, self.arguments = pipe, layout, rule, arguments
        self.generation: Generation | None = None
        self.network_calls = 0
        self.prepares = False  # whole calls may be left out from now on
        self.unguided = 0  # network calls in which the pipeline used no guidance
        self._clock: Clock | None = None
        self._skip = skip and layout.skip
        self._may_skip: dict[int, bool] = {}
        self._names: dict[int, list[str]] = {}

    def scale(self, network: str = "") -> float | None:
        """The pipeline's own scale now, as a weight of `uncond + scale (cond - uncond)`."""
        name = self.layout.scale
        second = self.arguments.get(f"{name}_2") if network.endswith("_2") else None
        value = second if second is not None else getattr(self.pipe, f"_{name}", None)
        value = self.arguments.get(name) if value is None else value
        return float(value) + self.layout.shift if isinstance(value, int | float) else None

    def wants_guidance(self) -> bool:
        """Whether the pipeline says that it uses classifier-free guidance."""
        said = getattr(self.pipe, "do_classifier_free_guidance", None)
        if said is not None:
            return bool(said)
        scale = self.scale()
        return scale is None or scale > 1 + self.layout.shift

    def names(self, module: Any) -> list[str]:
        """The parameters of a network, in order."""
        if id(module) not in self._names:
            self._names[id(module)] = names_of(module)
        return self._names[id(module)]

    def can_skip(self, module: Any) -> bool:
        """Whether rows of that network may be left out in this call of the pipeline."""
        if id(module) not in self._may_skip:
            self._may_skip[id(module)] = self._skip and may_skip(module)
        return self._may_skip[id(module)]

    def begins(self, batch: int) -> bool:
        """Whether the coming network call is the first of a generation.

        Every pipeline sets its scheduler's timesteps anew for one, also after an exception or an
        interrupt, so the object itself tells.
        """
        clock, generation = self._clock, self.generation
        return (
            clock is None
            or clock.timesteps is not self.pipe.scheduler.timesteps
            or generation is None
            or generation.batch != batch
        )

    def open(self, batch: int, device: torch.device) -> None:
        """Begin a generation."""
        self._clock = Clock(self.pipe.scheduler, self.layout.edm)
        self.generation = Generation(self.rule, batch, device)

    @abstractmethod
    def before(self, module: Any, network: str, call: Arguments) -> "Arguments | Skip | None":
        """The arguments to use instead, `Skip` for a call to leave out, None for what came."""

    @abstractmethod
    def after(
        self, module: Any, network: str, call: Arguments, output: Any, skipped: bool = False
    ) -> Any:
        """The answer to give instead, None for the network's own."""

    def needs(self, module: Any, call: Arguments) -> list[Needs]:
        """What each sample needs of the coming network call, in a generation that is open."""
        assert self._clock is not None and self.generation is not None
        level = self._clock.level(argument(self.names(module), call, "timestep", "t"))
        return self.generation.needs(level, self._clock.held())

    def step(self, module: Any, call: Arguments) -> list[Needs]:
        """Take the coming network call as the next step's; what each sample needs of it."""
        assert self._clock is not None and self.generation is not None
        level = self._clock.level(argument(self.names(module), call, "timestep", "t"))
        return self.generation.begin(level, self._clock.held())

    @abstractmethod
    def finish(self) -> None:
        """The pipeline has returned. Raises SidestepError if it left a call unanswered."""

    def close(self) -> None:
        """Let go of everything but the generation: a kept handle must keep no network alive."""
        self.__dict__ = {"generation": self.generation}


def complete(uncond: Tensor, cond: Tensor, made: Sequence[Needs]) -> tuple[Tensor, Tensor]:
    """Both predictions, each row that was not computed being a copy of the other's."""
    if not any(n.cond for n in made):
        return uncond, uncond
    if not any(n.uncond for n in made):
        return cond, cond
    if all(n.uncond and n.cond for n in made):
        return uncond, cond
    shape = (-1, *[1] * (uncond.ndim - 1))
    has_uncond = torch.tensor([n.uncond for n in made], device=uncond.device).view(shape)
    has_cond = torch.tensor([n.cond for n in made], device=uncond.device).view(shape)
    return torch.where(has_uncond, uncond, cond), torch.where(has_cond, cond, uncond)


def same(one: Any, other: Any) -> bool:
    """Whether two samples are the same numbers; the same memory needs no look at them."""
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if one.shape != other.shape:
        return False
    return one is other or one.data_ptr() == other.data_ptr() or torch.equal(one, other)


def device_of(sample: Any) -> torch.device:
    """Where a sample lies."""
    device: torch.device = sample[0].device
    return device


def channels_of(tensor: Tensor, sample: Any) -> int | None:
    """How many channels of a network's answer are the prediction, None for all of them.

    A network that also learns its variance answers with twice the channels it was given.
    """
    shape = sample[0].shape
    alike = tensor.ndim > 2 and len(shape) == tensor.ndim - 1
    return int(shape[0]) if alike and tensor.shape[1] == 2 * shape[0] else None
