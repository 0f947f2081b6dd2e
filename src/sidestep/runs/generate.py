"""Make pictures: a way to guide, a list of jobs, one batch after the other.

Every image depends on its own prompt and seed alone, so the batch size changes nothing but
rounding. A model either answers at one noise level, and our loop samples it (`Denoising`), or it
comes with a loop of its own, which a rule goes into (`Calling`).
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sidestep import registry
from sidestep.errors import SidestepError
from sidestep.guidance.base import Rule
from sidestep.guidance.config import as_dict, check_settings, from_dict
from sidestep.guidance.denoiser import Denoiser
from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.mitigations import Mitigation, Start, TextModel, Unfit
from sidestep.rng import image_seed, noise
from sidestep.runs.records import Kind
from sidestep.sampling.mitigated import OURS, Mitigated, sample_mitigated
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.probe import probe_and_sample
from sidestep.sampling.trace import Trace

LONGEST = 200  # of a slug; file systems end names at 255 bytes, and files add an ending
Report = Callable[[str, int, int], None]


def silent(task: str, done: int, total: int) -> None:
    """A report nobody reads."""


class Denoising(Protocol):
    """What our own loop needs of a text-to-image model."""

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


@runtime_checkable
class Calling(Protocol):
    """A text-to-image pipeline with a loop of its own."""

    @property
    def sampler(self) -> str:
        """How it samples, in words."""
        ...

    def call(
        self, rule: Rule[Any], prompts: Sequence[str], seeds: list[int], steps: int, scale: float
    ) -> tuple[NDArray[np.uint8], Trace]:
        """Pictures (B, H, W, 3) under a rule, a seed each; `scale` is for what it leaves open."""
        ...


Model = Denoising | Calling


def sampler_of(model: Model) -> str:
    """How a model's pictures are sampled, in words."""
    return str(getattr(model, "sampler", OURS))


@dataclass(frozen=True)
class Method:
    """A way to guide, with or without mitigations, under the label it has in tables."""

    label: str
    name: str  # its name in the registry
    settings: dict[str, Any]
    rule: Rule[Any] | None  # None for the two-pass probe
    mitigations: tuple[Mitigation, ...] = ()
    curve: str | None = None  # what its strengths share, a line of the charts
    strength: float | None = None  # where it lies on that line
    scale: float = DEFAULT_SCALE  # the guidance scale of the run
    # The rule with its scale as it was given: one that is open is the pipeline's, by its formula.
    given: Rule[Any] | None = None

    @property
    def slug(self) -> str:
        """The label as a file name; what is too long for one ends in a hash of the whole."""
        name = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")
        if len(name) <= LONGEST:
            return name
        return f"{name[: LONGEST - 9]}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"

    @property
    def header(self) -> dict[str, Any]:
        """All that defines it, as the header of a run lists it."""
        return {
            "rule": self.label,
            "method": self.name,
            "settings": self.settings,
            "curve": self.curve,
            "strength": self.strength,
            "slug": self.slug,
            "trace": f"traces/{self.slug}.safetensors",
        }

    def sample(self, start: Start, schedule: NoiseSchedule, finer: int | None) -> Mitigated:
        """Sample one batch from its start."""
        if self.rule is not None:
            return sample_mitigated(self.mitigations, start, self.rule, schedule, finer=finer)
        steps = len(start.levels)
        latents, trace = probe_and_sample(
            start.denoiser, start.x, schedule, steps=steps, finer=finer, **self.settings
        )
        return Mitigated(latents, trace, ())


def method(
    name: str,
    label: str | None = None,
    *,
    rule: Mapping[str, Any] | None = None,
    mitigations: Sequence[Mapping[str, Any]] = (),
    open_scale: float = DEFAULT_SCALE,
    **settings: Any,
) -> Method:
    """The method of a registry name; raises SidestepError for a setting it does not have.

    A mitigation samples with plain guidance, or with `rule`. `mitigations` begin after it, in
    order; they and the rule are dictionaries with a name and settings. `open_scale` is the guidance
    scale where the rule leaves it open.
    """
    kind = registry.get(name, *registry.GUIDES).kind
    own = {"name": name, **settings}
    if kind == "sampler":
        if mitigations or rule:
            raise SidestepError(
                f"{name} is a sampler of its own and takes no rule and no mitigations; "
                "use static or dynamic with them"
            )
        both = {"before": -open_scale, "after": open_scale}
        check_settings(name, settings, both)
        settings = both | settings
        return Method(label or _label(name, settings), name, settings, None, scale=open_scale)
    if kind == "rule" and rule is not None:
        raise SidestepError(f"{name} is a rule itself and takes no other; leave one of the two out")
    changed = kind == "mitigation"
    given = from_dict((rule or {"name": "constant"}) if changed else own)
    # A record says the number, also where the rule leaves its scale to the loop.
    guide = given.with_scale(open_scale)
    chain = tuple(from_dict(m) for m in ([own] if changed else []) + list(mitigations))
    settings = {k: v for k, v in as_dict(chain[0] if changed else guide).items() if k != "name"}
    if changed:
        settings["rule"] = as_dict(guide)
    if mitigations:
        settings["mitigations"] = [as_dict(m) for m in chain[changed:]]
    shown = label or _label(name, settings)
    reached = getattr(guide, "after", getattr(guide, "scale", None))
    scale = float(reached) if isinstance(reached, int | float) else open_scale
    return Method(shown, name, settings, guide, chain, scale=scale, given=given)


def _label(name: str, settings: Mapping[str, Any]) -> str:
    """The name with its own settings, then what is beside it, after a plus each."""
    own = {k: v for k, v in settings.items() if k not in ("name", "rule", "mitigations")}
    beside = [settings["rule"]] if "rule" in settings else []
    parts = [_label(other["name"], other) for other in [*beside, *settings.get("mitigations", [])]]
    return " + ".join([" ".join([name, *(f"{k}={_shown(v)}" for k, v in own.items())]), *parts])


def _shown(value: Any) -> str:
    return f"({_label(value['name'], value)})" if isinstance(value, Mapping) else str(value)


class Job(NamedTuple):
    """One image to make."""

    prompt: str
    draw: int
    kind: Kind = "other"


class Batch(NamedTuple):
    """What one method made of all jobs."""

    images: NDArray[np.uint8]  # (N, H, W, 3)
    trace: Trace
    seconds: list[float]  # per image
    reached: list[bool]  # every mitigation met its target
    backward: list[int]  # passes backward through the network


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
    """Every job through one method.

    Raises Unfit for a method that the model's own loop has no place for.
    """
    if batch < 1:
        raise SidestepError(f"batch is {batch}; give a batch size of at least 1")
    sample = _called if isinstance(model, Calling) else _looped
    made = list[Batch]()
    for first in range(0, len(jobs), batch):
        part = jobs[first : first + batch]
        begun = time.perf_counter()
        seeds = [image_seed(seed, j.prompt, j.draw) for j in part]
        one = sample(cast(Any, model), how, [j.prompt for j in part], seeds, steps, finer)
        each = (time.perf_counter() - begun) / len(part)
        made.append(one._replace(seconds=[each] * len(part)))
        report(how.label, first + len(part), len(jobs))
    return Batch(
        np.concatenate([one.images for one in made]),
        Trace.cat([one.trace for one in made]),
        [value for one in made for value in one.seconds],
        [value for one in made for value in one.reached],
        [value for one in made for value in one.backward],
    )


def _looped(
    model: Denoising,
    how: Method,
    prompts: Sequence[str],
    seeds: list[int],
    steps: int,
    finer: int | None,
) -> Batch:
    """One batch by our own loop."""
    x = noise(seeds, model.latent_shape)
    start = Start(
        denoiser=model.denoiser(prompts),
        x=x.to(getattr(model, "device", x.device)),
        levels=tuple(model.schedule.grid(steps)),
        seeds=tuple(seeds),
        prompts=tuple(prompts),
        model=cast(TextModel, model) if hasattr(model, "embed") else None,
        scale=how.scale,
        network=getattr(model, "name", ""),
    )
    made = how.sample(start, model.schedule, finer)
    images = model.decode(made.latents)
    return Batch(images, made.trace, [], made.reached.tolist(), made.backward.tolist())


def _called(
    model: Calling,
    how: Method,
    prompts: Sequence[str],
    seeds: list[int],
    steps: int,
    finer: int | None,
) -> Batch:
    """One batch by the pipeline's own loop, which has a place for a rule and for nothing else."""
    if how.given is None:
        raise Unfit(f"{how.name} samples by a loop of its own, and this pipeline keeps its own")
    if how.mitigations:
        raise Unfit(
            "mitigations change prompts, first noise or attention of a Stable Diffusion 1 or 2, "
            "and this is another pipeline; a rule works in it"
        )
    if finer is not None:
        raise Unfit("a pipeline follows the steps of its scheduler; leave finer steps out")
    images, trace = model.call(how.given, prompts, seeds, steps, how.scale)
    return Batch(images, trace, [], [True] * len(images), [0] * len(images))
