"""Experimental: hold a run inside the region of update norms that ordinary runs stay in.

With z and z' the latents before and after a step, x0 the clean estimate, and mu, s the mean and
standard deviation of ||z' - z|| at that step over runs that memorize nothing:

    deviation = | ||z' - z|| - mu | / s
    mild      x0 is scaled to the reference norm, and the step follows
    strong    ||z' - z|| and then ||z'|| are clamped into mu +- g s, each with its own mu and s

No network evaluation and no second branch. Memorized runs are said to leave the region.

Source: Huang et al., Broken Memories, KDD 2026, arXiv:2605.22050, from its description: there is no
official code, and when a deviation is mild and when strong is a setting here.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sidestep.errors import BadRecords
from sidestep.files import write
from sidestep.mitigations.base import Start, Step, Unfit
from sidestep.mitigations.descent import norms, times

FIELDS = ("update_mean", "update_std", "latent_mean", "latent_std", "clean_mean")


@dataclass(frozen=True)
class Region:
    """What ordinary runs look like, step by step, and which runs they were.

    `timesteps` are those of the T steps; each of the other tuples holds one number per step: mean
    and standard deviation of the norm of an update and of the latents after it, and the mean norm
    of the clean estimate. It fits runs of the same steps, scale, solver and network only.
    """

    timesteps: tuple[float, ...]
    update_mean: tuple[float, ...]
    update_std: tuple[float, ...]
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    clean_mean: tuple[float, ...]
    scale: float
    solver: str
    network: str

    def __post_init__(self) -> None:
        """Refuse statistics that are not one finite number per step."""
        steps = len(self.timesteps)
        for name in FIELDS:
            values = getattr(self, name)
            if steps == 0 or len(values) != steps or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"{name} holds {len(values)} numbers for {steps} steps, or one that is not "
                    "finite; a region has one finite number per step"
                )

    def check(self, start: Start) -> None:
        """Raise Unfit for a run of another configuration than the calibrated one."""
        for name, own, other in zip(
            ("timesteps", "scale", "solver", "network"), _key(start), _own_key(self), strict=True
        ):
            if own != other:
                raise Unfit(
                    f"the region was calibrated for {name} {other!r} and the run has {own!r}; "
                    "calibrate one for this configuration"
                )

    def save(self, path: Path | str) -> None:
        """Write as JSON, whole or not at all."""
        write(Path(path), json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path | str) -> "Region":
        """Read what `save` wrote; raises BadRecords for a missing, cut or foreign file."""
        try:
            given: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{k: _fixed(v) for k, v in given.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BadRecords(
                f"{path} is not a complete region file ({error}); calibrate again to write it"
            ) from error


class Calibration:
    """Watches runs of ordinary prompts as a mitigation that changes nothing, then gives a region.

    Begin it in as many runs of one configuration as you like, in our own loop or inside a pipeline;
    the paper took about 50 prompts. What memorizes among them widens the region.
    """

    name: ClassVar[str] = "calibration"

    def __init__(self) -> None:
        self._configuration: tuple[tuple[float, ...], float, str, str] | None = None
        self._norms: dict[float, list[Tensor]] = {}  # of update, latent and clean, (3, B) each

    def begin(self, start: Start) -> Start:
        """The same run, watched. Raises ValueError if it is of another configuration."""
        if self._configuration not in (None, _key(start)):
            raise ValueError(
                f"the runs so far were {self._configuration} and this one is {_key(start)} "
                "(timesteps, scale, solver, network); calibrate on one configuration"
            )
        self._configuration = _key(start)
        return replace(start, after=(*start.after, self._watch)).done(self.name)

    def _watch(self, step: Step) -> Tensor:
        seen = torch.stack(
            [norms(step.latent - step.x), norms(step.latent), norms(_clean(step))]
        ).double()
        self._norms.setdefault(step.level.timestep, []).append(seen.cpu())
        return step.latent

    def region(self) -> Region:
        """The region of all runs watched. Raises ValueError if there are fewer than two samples."""
        if self._configuration is None:
            raise ValueError("no run was watched; begin this calibration in runs first")
        timesteps, scale, solver, network = self._configuration
        seen = [torch.cat(self._norms.get(t, [torch.zeros(3, 0)]), dim=1) for t in timesteps]
        if min(one.shape[1] for one in seen) < 2:
            raise ValueError(
                f"the runs watched hold {min(one.shape[1] for one in seen)} samples with all "
                f"{len(timesteps)} steps; a standard deviation needs two, and fifty are better"
            )
        update_mean, latent_mean, clean_mean = _rows([one.mean(dim=1) for one in seen])
        update_std, latent_std, _ = _rows([one.std(dim=1) for one in seen])
        return Region(
            timesteps,
            update_mean,
            update_std,
            latent_mean,
            latent_std,
            clean_mean,
            scale,
            solver,
            network,
        )


@dataclass(frozen=True)
class UpdateNorm:
    """Correct a step whose update leaves the region of ordinary runs. Experimental.

    `mild` and `strong` are deviations in standard deviations. Above `mild` the clean estimate is
    scaled to the reference norm; above `strong` norms are clamped into the region of the smaller
    of the two instead. None is never; never both is plain guidance.
    """

    region: Region
    mild: float | None = 3.0
    strong: float | None = None

    name: ClassVar[str] = "update-norm"

    def __post_init__(self) -> None:
        """Refuse what is no region, and a deviation below zero."""
        if not isinstance(self.region, Region):
            raise ValueError(
                f"region is {self.region!r}; give a Region: Region.load(path) reads a file of one"
            )
        for name in ("mild", "strong"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(
                    f"{name} is {value}; it is a number of standard deviations, from 0 up, or None "
                    "for never"
                )

    def begin(self, start: Start) -> Start:
        """The run with a hook after each step. Raises Unfit if the region is of another run."""
        self.region.check(start)
        return replace(start, after=(*start.after, self._correct)).done(self.name)

    def _correct(self, step: Step) -> Tensor:
        """Other latents for the samples that left the region; the others stay to the bit."""
        if step.level.timestep not in self.region.timesteps:
            raise Unfit(
                f"the region knows no step at timestep {step.level.timestep}; it is defined on the "
                "grid it was calibrated on, so leave `finer` out"
            )
        at = self.region.timesteps.index(step.level.timestep)
        mean, std, latent_mean, latent_std, clean_mean = (
            getattr(self.region, name)[at] for name in FIELDS
        )
        change, clean, latent = step.latent - step.x, _clean(step), step.latent
        off = (norms(change) - mean).abs().view(-1, *[1] * (change.ndim - 1))
        if self.mild is not None:
            # The last step leads to the clean sample itself.
            weight = 1.0 if step.after is None else step.after.alpha
            fitted = times(clean_mean / norms(clean).clamp(min=1e-12), clean)
            latent = torch.where(off > self.mild * std, latent + weight * (fitted - clean), latent)
        if self.strong is not None:
            width = self.strong if self.mild is None else min(self.mild, self.strong)
            held = step.x + _clamped(change, mean, width * std)
            held = _clamped(held, latent_mean, width * latent_std)
            latent = torch.where(off > self.strong * std, held, latent)
        return latent


def _fixed(value: Any) -> Any:
    """JSON knows lists and no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _rows(columns: list[Tensor]) -> list[tuple[float, ...]]:
    """The rows of T columns of three numbers."""
    return [tuple(row) for row in torch.stack(columns, dim=1).tolist()]


def _clean(step: Step) -> Tensor:
    return (step.x - step.level.sigma * step.noise) / step.level.alpha


def _clamped(values: Tensor, mean: float, half: float) -> Tensor:
    """Each sample with its norm clamped into mean +- half; 0 where it is 0."""
    length = norms(values)
    wanted = length.clamp(max(mean - half, 0.0), mean + half)
    return times(torch.where(length > 0, wanted / length, 0.0), values)


def _key(start: Start) -> tuple[tuple[float, ...], float, str, str]:
    steps = tuple(float(level.timestep) for level in start.levels)
    return steps, float(start.scale), start.solver, start.network


def _own_key(region: Region) -> tuple[tuple[float, ...], float, str, str]:
    return region.timesteps, region.scale, region.solver, region.network
