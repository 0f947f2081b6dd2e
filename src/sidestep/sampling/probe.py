"""Two-pass opposite guidance: find each sample's transition on a probe run, then sample.

The probe follows opposite guidance from the same first noise to the end and watches
`c_k = 1 - cos(x_{k+1}, x_k)`, the cosine distance of successive latents. A sample's transition is
the first local minimum of c; a minimum at k = 1 is passed over where a second exists, and step 5
stands in where there is none. The second run uses the scale `before` until there.

Source: the opposite-guidance script of SonyResearch/mitigating_memorization (two-pass; costs two
runs). The paper describes an online rule on the gap instead: `Dynamic(before=-7.5)`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sidestep.guidance.constant import Constant
from sidestep.guidance.denoiser import Denoiser
from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.guidance.static import Static
from sidestep.sampling.loop import Sample, frames, sample
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.solvers import Solver

WITHOUT_MINIMUM = 5


def transitions(distances: Tensor) -> tuple[Tensor, Tensor]:
    """The transition step of each column of cosine distances (K, B), and where none was found."""
    inner = (distances[1:-1] < distances[:-2]) & (distances[1:-1] < distances[2:])
    steps, missing = [], []
    for column in inner.T:
        minima = (column.nonzero()[:, 0] + 1).tolist()
        if minima[:1] == [1] and len(minima) > 1:
            minima = minima[1:]
        steps.append(minima[0] if minima else WITHOUT_MINIMUM)
        missing.append(not minima)
    return torch.tensor(steps), torch.tensor(missing)


@torch.no_grad()
def probe_and_sample(
    denoiser: Denoiser,
    x: Tensor,
    schedule: NoiseSchedule,
    *,
    before: float = -DEFAULT_SCALE,
    after: float = DEFAULT_SCALE,
    steps: int = 50,
    solver: Solver | None = None,
    finer: int | None = None,
) -> Sample:
    """Sample a batch from first noise `x` (B, *S) in two passes.

    The trace is the second run's; its `nfe` counts both, `fell_back` marks samples whose probe
    showed no minimum.
    """
    levels = schedule.grid(steps)
    distances: list[Tensor] = []
    nfe: Tensor | int = 0
    for frame in frames(denoiser, x, Constant(before), levels, solver):
        # In float64: near 1 a float32 cosine has too few digits left to compare its distance by.
        here, there = (v.flatten(1).cpu().double() for v in (frame.x, frame.latent))
        distances.append(1 - torch.cosine_similarity(there, here, dim=1))
        nfe += frame.nfe
    found, missing = transitions(torch.stack(distances))
    times = tuple(levels[min(k, steps - 1)].time for k in found.tolist())
    rule = Static(time=times, before=before, after=after)
    latents, trace = sample(denoiser, x, rule, schedule, steps=steps, solver=solver, finer=finer)
    return Sample(latents, replace(trace, fell_back=missing, nfe=trace.nfe + nfe))
