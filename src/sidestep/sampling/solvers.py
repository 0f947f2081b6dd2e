"""Solvers: a noise prediction and two levels in, the next latent out. Memory is explicit."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from sidestep.guidance.denoiser import Level
from sidestep.mitigations.base import After, Step


class Memory(NamedTuple):
    """What a multistep solver remembers of the step before: its clean estimate and log SNR / 2."""

    clean: Tensor
    log_snr_half: float


class Solver(Protocol):
    """One step from a level to the next; `after` None means to the clean sample."""

    def step(
        self, noise: Tensor, x: Tensor, level: Level, after: Level | None, memory: Memory | None
    ) -> tuple[Tensor, Memory | None]:
        """The next latent (B, *S) and the memory for the step after it."""
        ...


@dataclass(frozen=True)
class DDIM:
    """Deterministic DDIM (Song et al., 2021). `clip` bounds the clean estimate to +-clip."""

    clip: float | None = None

    def step(
        self, noise: Tensor, x: Tensor, level: Level, after: Level | None, memory: Memory | None
    ) -> tuple[Tensor, None]:
        """First order; no memory."""
        clean = (x - level.sigma * noise) / level.alpha
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
            noise = (x - level.alpha * clean) / level.sigma
        if after is None:
            return clean, None
        return after.alpha * clean + after.sigma * noise, None


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++ (2M): second order from the second step on (Lu et al., 2022).

    The sampler of the paper. The last step, to the clean sample, is of first order, as in
    diffusers' DPMSolverMultistepScheduler.
    """

    def step(
        self, noise: Tensor, x: Tensor, level: Level, after: Level | None, memory: Memory | None
    ) -> tuple[Tensor, Memory]:
        """The next latent and this step's clean estimate."""
        clean = (x - level.sigma * noise) / level.alpha
        here = math.log(level.alpha / level.sigma)
        kept = Memory(clean, here)
        if after is None:
            return clean, kept
        width = math.log(after.alpha / after.sigma) - here
        direction = clean
        if memory is not None:
            ratio = (here - memory.log_snr_half) / width
            direction = clean + (clean - memory.clean) / (2 * ratio)
        return (after.sigma / level.sigma) * x - after.alpha * math.expm1(-width) * direction, kept


@dataclass(frozen=True)
class Hooked:
    """A solver after whose every step hooks may change the latents, one after the other."""

    solver: Solver
    hooks: tuple[After, ...]

    def step(
        self, noise: Tensor, x: Tensor, level: Level, after: Level | None, memory: Memory | None
    ) -> tuple[Tensor, Memory | None]:
        """The next latent as the last hook leaves it; the memory is the solver's own."""
        latent, memory = self.solver.step(noise, x, level, after, memory)
        for hook in self.hooks:
            latent = hook(Step(noise, x, latent, level, after))
        return latent, memory
