"""What a network is asked and what it answers: a noise level in, two predictions out."""

from typing import NamedTuple, Protocol

from torch import Tensor

from sidestep.guidance.base import Needs, Prediction


class Level(NamedTuple):
    """One noise level of a model."""

    timestep: float  # what the network is told; a whole number on most schedules
    time: float  # diffusion time in [0, 1], 1 = pure noise: timestep / number of timesteps
    alpha: float
    sigma: float

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio, (alpha / sigma)^2."""
        return (self.alpha / self.sigma) ** 2


class Denoiser(Protocol):
    """A network with its conditioning bound: the latents of a batch in, both predictions out."""

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S) at a level; a branch not needed may be the other, itself."""
        ...

    def select(self, rows: Tensor) -> "Denoiser":
        """The denoiser of some samples of the batch, by index."""
        ...
