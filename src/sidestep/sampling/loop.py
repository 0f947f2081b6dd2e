"""The one sampling loop: a generator of frames, and a function that collects them.

Data flows one way: latent -> denoiser (two predictions) -> rule -> solver -> next latent.
"""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sidestep.guidance.base import Guided, Needs, Prediction, Rule, take
from sidestep.sampling.noise import Level, NoiseSchedule
from sidestep.sampling.solvers import DPMSolver, Solver
from sidestep.sampling.trace import Recorder, Trace


class Denoiser(Protocol):
    """A network with its conditioning bound: the latents of a batch in, both predictions out."""

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S) at a level; a branch not needed may repeat the other."""
        ...

    def select(self, rows: Tensor) -> "Denoiser":
        """The denoiser of some samples of the batch, by index."""
        ...


class Frame(NamedTuple):
    """One step of one batch, after it was taken."""

    step: int
    level: Level
    x: Tensor  # (B, *S) the latents the network saw
    latent: Tensor  # (B, *S) the latents after the step; clean after the last one
    prediction: Prediction
    guided: Guided
    nfe: int  # network evaluations made for each sample
    state: Any  # the rule's state after the step


class Sample(NamedTuple):
    """What a run gives: clean latents (B, *S) and its trace."""

    latents: Tensor
    trace: Trace


def frames(
    denoiser: Denoiser,
    x: Tensor,
    rule: Rule[Any],
    levels: Sequence[Level],
    solver: Solver | None = None,
    state: Any = None,
) -> Generator[Frame, Tensor | None, None]:
    """Sample step by step from latents `x` (B, *S) at the first level; the last latent is clean.

    `state` continues a rule that has already run; None starts it. Sending the rows to keep (by
    index) into the generator drops the other samples from the batch.
    """
    if len(x) == 0:
        raise ValueError("the batch is empty; give at least one prompt and one seed")
    solver = solver or DPMSolver()
    state = rule.init(len(x), x.device) if state is None else state
    memory = None
    for step, level in enumerate(levels):
        needs = rule.needs(level.time)
        prediction = denoiser(x, level, needs)
        guided, state = rule.step(prediction, state)
        after = levels[step + 1] if step + 1 < len(levels) else None
        latent, memory = solver.step(guided.noise, x, level, after, memory)
        nfe = needs.uncond + needs.cond
        keep = yield Frame(step, level, x, latent, prediction, guided, nfe, state)
        x = latent
        while keep is not None:
            if len(keep) == 0:
                return
            x, denoiser, state = x[keep], denoiser.select(keep), take(state, keep)
            memory = None if memory is None else memory._replace(clean=memory.clean[keep])
            keep = yield  # type: ignore[misc]  # the answer to send()


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
    """Sample a batch from first noise `x` (B, *S), float32.

    With `finer`, each sample leaves the grid of `steps` at its own transition and finishes on the
    levels of a grid with that many steps, the solver's history dropped (the released scripts'
    re-gridding, 50 to 200). The trace keeps the coarse part; its `nfe` counts both.
    """
    levels = schedule.grid(steps)
    if finer is not None and finer < steps:
        raise ValueError(f"finer is {finer} and steps {steps}; finer steps must be more steps")
    recorder = Recorder(len(x), [level.time for level in levels])
    latents = torch.empty_like(x)
    rows = torch.arange(len(x), device=x.device)
    run = frames(denoiser, x, rule, levels, solver)
    for frame in run:
        recorder.add(frame.step, rows, frame.prediction.gap, frame.guided, frame.nfe)
        latents[rows] = frame.latent
        leave = frame.guided.on
        if finer is None or not bool(leave.any()):
            continue
        gone = leave.nonzero()[:, 0]
        rest = frames(
            denoiser.select(rows[gone]), frame.x[gone], rule,
            schedule.grid_from(frame.level, finer), solver, take(frame.state, gone),
        )
        for fine in rest:
            recorder.add(None, rows[gone], fine.prediction.gap, fine.guided, fine.nfe)
            latents[rows[gone]] = fine.latent
        stay = (~leave).nonzero()[:, 0]
        rows = rows[stay]
        try:
            run.send(stay)
        except StopIteration:
            break
    return Sample(latents, recorder.trace())
