"""Sampling a run that mitigations changed: they begin in order, then the loop samples."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.base import Rule
from sidestep.mitigations.base import Mitigation, Outcome, Start, begin
from sidestep.sampling.loop import sample
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.solvers import DPMSolver, Hooked, Solver
from sidestep.sampling.trace import Trace

OURS = "DPM-Solver++ 2M"  # the solver that is taken unless another is given


class Mitigated(NamedTuple):
    """Clean latents (B, *S), the trace, and what each mitigation did before the first step.

    The trace's `nfe` counts the evaluations of the mitigations too.
    """

    latents: Tensor
    trace: Trace
    outcomes: tuple[Outcome, ...]

    @property
    def reached(self) -> Tensor:
        """Whether every mitigation met its target, (B,) bool."""
        met = torch.ones(len(self.latents), dtype=torch.bool)
        for outcome in self.outcomes:
            met &= outcome.reached.cpu()
        return met

    @property
    def backward(self) -> Tensor:
        """Passes backward through the network before the first step, (B,) int64."""
        passes = torch.zeros(len(self.latents), dtype=torch.int64)
        for outcome in self.outcomes:
            passes += outcome.backward.cpu()
        return passes


def sample_mitigated(
    mitigations: Sequence[Mitigation],
    start: Start,
    rule: Rule[Any],
    schedule: NoiseSchedule,
    *,
    solver: Solver | None = None,
    finer: int | None = None,
) -> Mitigated:
    """Sample the run `start`, on a grid of the schedule, under mitigations and a rule.

    Raises Unfit for a model that a mitigation is not defined for.
    """
    solver = solver or DPMSolver()
    begun = begin(mitigations, replace(start, solver=repr(solver)))
    latents, trace = sample(
        begun.denoiser,
        begun.x,
        rule,
        schedule,
        steps=len(start.levels),
        solver=Hooked(solver, begun.after) if begun.after else solver,
        finer=finer,
    )
    nfe = trace.nfe + sum(o.nfe.cpu() for o in begun.outcomes)
    return Mitigated(latents, replace(trace, nfe=nfe), begun.outcomes)
