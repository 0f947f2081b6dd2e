"""Where a diffusers scheduler stands: noise level, diffusion time, units of the model's output.

What a network is told as its timestep differs from family to family, so the level comes from the
scheduler's own table, by its own counter where it has one, and becomes a diffusion time through
the signal-to-noise ratio. Nothing is written to the scheduler.
"""

import math
from typing import Any, NamedTuple

import torch

from sidestep.errors import BadModel
from sidestep.sampling.noise import snr_of_edm, snr_of_flow, time_of_snr


class Level(NamedTuple):
    """One noise level of a foreign model."""

    snr: float  # signal-to-noise ratio, 0 to inf
    time: float  # diffusion time in [0, 1] at which Stable Diffusion has that ratio
    unit: float  # how far the noise prediction moves when the model's output moves by 1


class Clock:
    """The levels of one generation; the scheduler's tables are copied to the host once."""

    def __init__(self, scheduler: Any, edm: bool = False) -> None:
        """For the timesteps the scheduler holds now. Raises BadModel if it has no levels."""
        self.scheduler = scheduler
        self.timesteps = scheduler.timesteps
        self.values: list[float] = torch.as_tensor(scheduler.timesteps).double().tolist()
        name, config = type(scheduler).__name__, scheduler.config
        kind = config.get("prediction_type")
        self._kind = "flow" if kind in (None, "flow_prediction") else str(kind)
        self._flow = not edm and (
            bool(config.get("use_flow_sigmas"))
            or ("FlowMatch" in name or kind == "flow_prediction")
        )
        self._sigma_data = config.get("sigma_data") if name.startswith("EDM") else None
        self._counts = hasattr(scheduler, "step_index")
        sigmas = getattr(scheduler, "sigmas", None)
        bar = getattr(scheduler, "alphas_cumprod", None)
        if self._counts and sigmas is not None:
            ratio = _snr_of_flow if self._flow else _snr_of_edm
            self._ratios = [ratio(s) for s in torch.as_tensor(sigmas).double().tolist()]
        elif bar is not None:
            bars = bar.double().tolist()
            self._ratios = [_snr_of_bar(_between(bars, value)) for value in self.values]
        else:
            raise BadModel(
                f"{name} has neither sigmas nor alphas_cumprod, so its noise levels are "
                "not known; give the pipeline a scheduler such as DDIM, DPM-Solver++ or Euler"
            )

    def held(self) -> bool:
        """Whether the call is the second evaluation of one step of a second-order solver."""
        return not getattr(self.scheduler, "state_in_first_order", True)

    def level(self, timestep: Any) -> Level:
        """The level of the coming call, which tells its network `timestep`."""
        return self.at(self.position(timestep))

    def at(self, index: int) -> Level:
        """The level of the scheduler's timestep number `index`."""
        snr = self._ratios[index]
        return Level(snr, time_of_snr(snr), self._unit(snr))

    def position(self, timestep: Any) -> int:
        """The number of the step that the coming call, which tells its network that, belongs to."""
        for counter in ("step_index", "begin_index"):
            index = getattr(self.scheduler, counter, None)
            if index is not None:
                return int(index)
        value = float(torch.as_tensor(timestep).flatten()[0])
        if value in self.values:
            return self.values.index(value)
        if self._counts:
            return 0  # it counts from the first step on, which this is
        raise BadModel(
            f"the network was told timestep {value}, which is none of the scheduler's, and "
            f"{type(self.scheduler).__name__} keeps no count of its steps; the noise level is not "
            "known. Give the pipeline a scheduler that counts, such as DPM-Solver++ or Euler"
        )

    def _unit(self, snr: float) -> float:
        """|d noise / d output| at a level, for what the model predicts."""
        root = math.sqrt(snr)
        if self._sigma_data is not None:  # EDM's own scaling of the output
            sigma = 1 / root if root else math.inf
            data = float(self._sigma_data)
            return data / math.sqrt(sigma**2 + data**2)
        match self._kind:
            case "epsilon":
                return 1.0
            case "v_prediction":
                return root / math.sqrt(1 + snr)
            case "sample":
                return root
            case "flow":
                return root / (1 + root)
        raise BadModel(
            f"{type(self.scheduler).__name__} is set to prediction type {self._kind!r}; epsilon, "
            "v_prediction, sample and flow_prediction are known. Correct the scheduler's config"
        )


# Tables reach the two ends, pure noise and no noise, which have no sigma to convert.


def _snr_of_edm(sigma: float) -> float:
    return snr_of_edm(sigma) if sigma else math.inf


def _snr_of_flow(sigma: float) -> float:
    if sigma >= 1:
        return 0.0
    return snr_of_flow(sigma) if sigma else math.inf


def _snr_of_bar(bar: float) -> float:
    return bar / (1 - bar) if bar < 1 else math.inf


def _between(table: list[float], position: float) -> float:
    """A table at a position between its entries, its ends beyond them."""
    position = min(max(position, 0), len(table) - 1)
    low = int(position)
    high = min(low + 1, len(table) - 1)
    return table[low] + (position - low) * (table[high] - table[low])
