"""What a run leaves: gap, scale and network evaluations of every sample at every step.

A trace can be saved, loaded and replayed through any rule without the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from sidestep.errors import BadRecords
from sidestep.files import write
from sidestep.guidance.base import Guided, Prediction, Rule


@dataclass(frozen=True)
class Trace:
    """T steps of B samples. Where a step was not made for a sample, `gap` and `scale` are NaN."""

    time: Tensor  # (T,) diffusion time of each step, 1 = noise
    gap: Tensor  # (T, B) NaN also where only one prediction was computed
    scale: Tensor  # (T, B) the scale that was applied
    transition: Tensor  # (B,) int64, the step at which guidance came on, -1 = never
    fell_back: Tensor  # (B,) bool, it was a fallback that turned it on, for want of a signal
    nfe: Tensor  # (B,) int64, network evaluations made
    plain: Tensor  # (B,) int64, those that plain guidance makes over the same steps

    def __post_init__(self) -> None:
        """Refuse fields that do not belong to one run."""
        steps, batch = self.gap.shape if self.gap.ndim == 2 else (-1, -1)
        expected = {"time": (steps,), "gap": (steps, batch), "scale": (steps, batch)}
        for field in fields(self):
            shape, fit = tuple(getattr(self, field.name).shape), expected.get(field.name, (batch,))
            if shape != fit:
                raise ValueError(
                    f"{field.name} has shape {shape}; with gap of shape {tuple(self.gap.shape)}, "
                    f"(T, B), it must be {fit}"
                )

    @property
    def transition_time(self) -> Tensor:
        """Diffusion time of the transition, (B,); NaN where guidance never came on."""
        time = self.time[self.transition.clamp(min=0)]
        return torch.where(self.transition >= 0, time, torch.nan)

    @property
    def cost(self) -> float:
        """Network evaluations relative to plain guidance over the same steps, 1.0 = the same."""
        return float(self.nfe.double().sum() / self.plain.double().sum())

    def to_bytes(self) -> bytes:
        """The trace as the bytes of a safetensors file."""
        return to_bytes({f.name: getattr(self, f.name).contiguous() for f in fields(self)})

    def save(self, path: Path | str) -> None:
        """Write as safetensors, whole or not at all."""
        write(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: Path | str) -> "Trace":
        """Read what `save` wrote; raises BadRecords for a missing, cut or foreign file."""
        try:
            return cls(**load_file(path))
        except (SafetensorError, TypeError, ValueError, OSError) as error:
            raise BadRecords(
                f"{path} is not a complete trace file ({error}); run the sampling again to write it"
            ) from error

    @classmethod
    def cat(cls, traces: Sequence["Trace"]) -> "Trace":
        """One trace of the samples of several runs over the same steps."""
        if not traces:
            raise ValueError("there are no traces to join; give at least one")
        if any(not torch.equal(t.time, traces[0].time) for t in traces):
            raise ValueError("the traces have different time grids; join runs of the same steps")
        joined = {
            f.name: torch.cat([getattr(t, f.name) for t in traces], dim=-1)
            for f in fields(cls)
            if f.name != "time"
        }
        return cls(time=traces[0].time, **joined)

    def replay(self, rule: Rule[Any]) -> "Trace":
        """What the rule would have decided had it seen these gaps.

        The gaps stay those of the recorded trajectory; a rule that guides differently would have
        left it. Evaluations are counted as the rule asks for them. Where the run computed one
        prediction only, the rule meets one prediction too; a rule that needs the gap refuses it.

        Raises ValueError where some samples had left the grid for finer steps.
        """
        batch = self.gap.shape[1]
        recorder, state = Recorder(batch, self.time.tolist()), rule.init(batch)
        everyone = torch.arange(batch)
        for step, time in enumerate(self.time.tolist()):
            gap = self.gap[step].float()[:, None]
            unknown = gap.isnan()
            if unknown.any() and not unknown.all():
                raise ValueError(
                    f"step {step} holds a gap for {int((~unknown).sum())} of {batch} samples; a "
                    "run with finer steps cannot be replayed, record one without"
                )
            zero = torch.zeros_like(gap)
            prediction = Prediction(zero, zero if unknown.all() else gap, time)
            needs = rule.needs(time)
            guided, state = rule.step(prediction, state)
            recorder.add(step, everyone, self.gap[step], guided, needs.uncond + needs.cond)
        return recorder.trace()


class Recorder:
    """Collects the steps of a run into a trace; rows of a batch may leave early."""

    def __init__(self, batch: int, times: Sequence[float]) -> None:
        self.time = torch.tensor(times, dtype=torch.float64)
        self.gap = torch.full((len(times), batch), torch.nan, dtype=torch.float32)
        self.scale = torch.full((len(times), batch), torch.nan, dtype=torch.float32)
        self.transition = torch.full((batch,), -1, dtype=torch.int64)
        self.fell_back = torch.zeros(batch, dtype=torch.bool)
        self.nfe = torch.zeros(batch, dtype=torch.int64)
        # Two a step; whoever records a solver that asks more often says how often it did.
        self.plain = torch.full((batch,), 2 * len(times))

    def add(self, step: int, rows: Tensor, gap: Tensor, guided: Guided, nfe: Tensor | int) -> None:
        """Record one step of some rows."""
        self.count(rows, nfe)
        rows = rows.cpu()
        self.gap[step, rows] = gap.float().cpu()
        self.scale[step, rows] = guided.scale.float().cpu()
        first = guided.on.cpu() & (self.transition[rows] < 0)
        self.transition[rows[first]] = step
        self.fell_back[rows[first]] = guided.fell_back.cpu()[first]

    def count(self, rows: Tensor, nfe: Tensor | int) -> None:
        """Record network evaluations of some rows, (B,) or one number for all."""
        self.nfe[rows.cpu()] += nfe.cpu() if isinstance(nfe, Tensor) else nfe

    def trace(self) -> Trace:
        """The finished trace."""
        return Trace(
            self.time, self.gap, self.scale, self.transition, self.fell_back, self.nfe, self.plain
        )
