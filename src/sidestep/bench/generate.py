"""Make pictures: a way to guide, a list of jobs, one batch after the other.

Every image depends on its own prompt and seed alone, so the batch size changes nothing but
rounding.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sidestep import registry
from sidestep.audit.records import Kind
from sidestep.errors import SidestepError
from sidestep.guidance.base import Rule
from sidestep.guidance.config import check_settings, from_dict
from sidestep.guidance.denoiser import Denoiser
from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.rng import image_seed, noise
from sidestep.sampling.loop import Sample, sample
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.probe import probe_and_sample
from sidestep.sampling.trace import Trace

Report = Callable[[str, int, int], None]


def silent(task: str, done: int, total: int) -> None:
    """A report nobody reads."""


class Model(Protocol):
    """What generating needs of a text-to-image model."""

    schedule: NoiseSchedule

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        ...

    def denoiser(self, prompts: Sequence[str]) -> Denoiser:
        """The network with one prompt per sample."""
        ...

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Clean latents to pictures (B, H, W, 3)."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to guide under the label it has in tables."""

    label: str
    name: str  # its name in the registry
    settings: dict[str, Any]
    rule: Rule[Any] | None  # None for the two-pass probe

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")

    def sample(
        self,
        denoiser: Denoiser,
        x: Tensor,
        schedule: NoiseSchedule,
        steps: int,
        finer: int | None,
    ) -> Sample:
        """Sample one batch from first noise."""
        if self.rule is None:
            return probe_and_sample(
                denoiser, x, schedule, steps=steps, finer=finer, **self.settings
            )
        return sample(denoiser, x, self.rule, schedule, steps=steps, finer=finer)


PROBE_SETTINGS = {"before": -DEFAULT_SCALE, "after": DEFAULT_SCALE}


def method(name: str, label: str | None = None, **settings: Any) -> Method:
    """The method of a registry name; raises SidestepError for a setting it does not have."""
    rule = None
    if registry.get(name, *registry.GUIDES).kind == "rule":
        # A record says the number, also where the rule leaves its scale to the loop.
        rule = from_dict({"name": name, **settings}).with_scale(DEFAULT_SCALE)
        settings = asdict(rule)  # type: ignore[call-overload]
    else:
        check_settings(name, settings, PROBE_SETTINGS)
        settings = PROBE_SETTINGS | settings
    shown = label or " ".join([name, *(f"{k}={v}" for k, v in settings.items())])
    return Method(shown, name, settings, rule)


class Job(NamedTuple):
    """One image to make."""

    prompt: str
    draw: int
    kind: Kind = "other"


class Batch(NamedTuple):
    """What one method made of all jobs: pictures (N, H, W, 3), the trace, seconds per image."""

    images: NDArray[np.uint8]
    trace: Trace
    seconds: list[float]


def make(
    model: Model,
    jobs: Sequence[Job],
    how: Method,
    *,
    seed: int = 0,
    steps: int = 50,
    batch: int = 16,
    finer: int | None = None,
    report: Report = silent,
) -> Batch:
    """Every job through one method."""
    if batch < 1:
        raise SidestepError(f"batch is {batch}; give a batch size of at least 1")
    images, traces, seconds = [], [], []
    for first in range(0, len(jobs), batch):
        part = jobs[first : first + batch]
        start = time.perf_counter()
        x = noise([image_seed(seed, j.prompt, j.draw) for j in part], model.latent_shape)
        device = getattr(model, "device", x.device)
        denoiser = model.denoiser([j.prompt for j in part])
        made = how.sample(denoiser, x.to(device), model.schedule, steps, finer)
        images.append(model.decode(made.latents))
        traces.append(made.trace)
        seconds += [(time.perf_counter() - start) / len(part)] * len(part)
        report(how.label, first + len(part), len(jobs))
    return Batch(np.concatenate(images), Trace.cat(traces), seconds)
