"""The one sampling loop: one pure step, a generator of frames, and a function that collects them.

Data flows one way: latent -> denoiser (two predictions) -> rule -> solver -> next latent.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.base import Guided, Prediction, Rule, take
from sidestep.guidance.denoiser import Denoiser, Level
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.solvers import DPMSolver, Memory, Solver
from sidestep.sampling.trace import Recorder, Trace


class Run(NamedTuple):
    """A batch between two steps: all that the next step needs."""

    denoiser: Denoiser
    x: Tensor  # (B, *S) latents at the level of the next step
    state: Any  # the rule's
    memory: Memory | None  # the solver's

    @classmethod
    def start(cls, denoiser: Denoiser, x: Tensor, rule: Rule[Any]) -> "Run":
        """Before the first step, from latents `x` (B, *S). Raises ValueError if B is 0."""
        if len(x) == 0:
            raise ValueError("the batch is empty; give at least one prompt and one seed")
        return cls(denoiser, x, rule.init(len(x), x.device), None)

    def take(self, rows: Tensor) -> "Run":
        """Some samples of the batch, by index; they go on as if the others had never been there."""
        memory = self.memory
        if memory is not None:
            memory = memory._replace(clean=memory.clean[rows])
        return Run(self.denoiser.select(rows), self.x[rows], take(self.state, rows), memory)


class Frame(NamedTuple):
    """One step of one batch, after it was taken."""

    level: Level
    x: Tensor  # (B, *S) the latents the network saw
    latent: Tensor  # (B, *S) the latents after the step; clean after the last one
    prediction: Prediction
    guided: Guided
    nfe: Tensor | int  # network evaluations made, (B,) or the same for each sample


class Sample(NamedTuple):
    """What a run gives: clean latents (B, *S) and its trace."""

    latents: Tensor
    trace: Trace


def advance(
    run: Run, rule: Rule[Any], solver: Solver, level: Level, after: Level | None
) -> tuple[Frame, Run]:
    """Take one step from a level to the next, or to the clean latents if `after` is None."""
    needs = rule.needs(level.time)
    prediction = run.denoiser(run.x, level, needs)
    if prediction.uncond.shape != run.x.shape:
        raise ValueError(
            f"the denoiser answered latents of shape {tuple(run.x.shape)} with noise of shape "
            f"{tuple(prediction.uncond.shape)}; they must be equal"
        )
    guided, state = rule.step(prediction, run.state)
    latent, memory = solver.step(guided.noise, run.x, level, after, run.memory)
    nfe = needs.uncond + needs.cond + prediction.extra
    frame = Frame(level, run.x, latent, prediction, guided, nfe)
    return frame, Run(run.denoiser, latent, state, memory)


def frames(
    denoiser: Denoiser,
    x: Tensor,
    rule: Rule[Any],
    levels: Sequence[Level],
    solver: Solver | None = None,
) -> Iterator[Frame]:
    """Sample step by step from latents `x` (B, *S) at the first level; the last latent is clean."""
    run = Run.start(denoiser, x, rule)
    for level, after in _steps(levels):
        frame, run = advance(run, rule, solver or DPMSolver(), level, after)
        yield frame


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    x: Tensor,
    rule: Rule[Any],
    schedule: NoiseSchedule,
    *,
    steps: int = 50,
    solver: Solver | None = None,
    finer: int | None = None,
) -> Sample:
    """Sample a batch from first noise `x` (B, *S).

    With `finer`, each sample leaves the grid of `steps` at its own transition and finishes on the
    levels of a grid with that many steps, the solver's history dropped (the released scripts'
    re-gridding, 50 to 200). The trace keeps the coarse part, transition step included; its `nfe`
    counts both.

    Raises ValueError for an empty batch, for steps the schedule does not allow and for finer steps
    that are fewer.
    """
    levels = schedule.grid(steps)
    if finer is not None and finer < steps:
        raise ValueError(f"finer is {finer} and steps {steps}; finer steps must be more steps")
    solver = solver or DPMSolver()
    run = Run.start(denoiser, x, rule)
    recorder = Recorder(len(x), [level.time for level in levels])
    latents = torch.empty_like(x)
    rows = torch.arange(len(x), device=x.device)  # the samples that are still on the coarse grid
    for step, (level, after) in enumerate(_steps(levels)):
        begun = run
        frame, run = advance(run, rule, solver, level, after)
        recorder.add(step, rows, frame.prediction.gap, frame.guided, frame.nfe)
        if finer is not None and bool(frame.guided.on.any()):
            leave = frame.guided.on.nonzero()[:, 0]
            # The network has already answered at this level; only the solver's step is another.
            (_, first), *rest = _steps(schedule.grid_from(level, finer))
            latent, memory = solver.step(
                frame.guided.noise[leave], begun.x[leave], level, first, None
            )
            part = Run(begun.denoiser.select(leave), latent, take(run.state, leave), memory)
            for fine, below in rest:
                finest, part = advance(part, rule, solver, fine, below)
                recorder.count(rows[leave], finest.nfe)
            latents[rows[leave]] = part.x
            stay = (~frame.guided.on).nonzero()[:, 0]
            rows = rows[stay]
            if len(rows) == 0:
                return Sample(latents, recorder.trace())
            run = run.take(stay)
    latents[rows] = run.x
    return Sample(latents, recorder.trace())


def _steps(levels: Sequence[Level]) -> list[tuple[Level, Level | None]]:
    """Each level with the one after it; None after the last."""
    return list(zip(levels, [*levels[1:], None], strict=True))
