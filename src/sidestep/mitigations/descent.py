"""The guidance difference at one noise level, and a descent over first noise until it is small.

Shared by the mitigations that look for a first noise at which the prompt pulls less. Every sample
descends alone and is left as it is, and no longer evaluated, once it has met its target.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sidestep.guidance.base import BOTH
from sidestep.guidance.denoiser import Denoiser, Level
from sidestep.mitigations.base import check_flow

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
# Samples, their noise (b, *S) and the difference there -> the loss (b,) and the further network
# evaluations it made per sample, (b,) or one number for all.
Loss = Callable[[Denoiser, Tensor, Tensor], tuple[Tensor, Tensor | int]]


def difference(denoiser: Denoiser, x: Tensor, level: Level) -> tuple[Tensor, Tensor | int]:
    """`cond - uncond` (B, *S), and the evaluations per sample that it took."""
    prediction = denoiser(x, level, BOTH)
    return prediction.cond - prediction.uncond, 2 + prediction.extra


def norms(values: Tensor) -> Tensor:
    """The L2 norm of each sample, (B,), in float32 or finer."""
    wide = torch.promote_types(values.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(values.flatten(1).to(wide), dim=1)
    return norm


def times(factor: Tensor, values: Tensor) -> Tensor:
    """Each sample (B, *S) times its own factor, (B,)."""
    return factor.to(values.dtype).view(-1, *[1] * (values.ndim - 1)) * values


class Descent(NamedTuple):
    """Where each of n samples came to rest."""

    x: Tensor  # (n, *S)
    gap: Tensor  # (n,) the norm of the difference there
    nfe: Tensor  # (n,) int64
    backward: Tensor  # (n,) int64, one for each evaluation that a gradient went through


def descend(
    denoiser: Denoiser,
    level: Level,
    x: Tensor,
    *,
    target: float,
    limit: int,
    optimizer: Optimizer,
    loss: Loss,
    group: int = 1,
) -> Descent:
    """Descend the loss from x (n, *S) until the gap is at most `target`, at most `limit` updates.

    The gap is looked at before each update and after the last one. Every `group` samples in a row
    are attempts at one: they rest together as soon as one of them has met the target. Raises Unfit
    for a network that lets no gradients through.
    """
    # A tensor per sample: optimizers pass over those without a gradient.
    rows = [row.clone() for row in x.detach()]
    stepper = optimizer(rows)
    gap = torch.full((len(x),), torch.inf, dtype=norms(x[:1]).dtype, device=x.device)
    nfe = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    backward = torch.zeros_like(nfe)
    going = torch.arange(len(x), device=x.device)
    for update in range(limit + 1):
        inner = denoiser.select(going)
        with torch.set_grad_enabled(update < limit):
            here = torch.stack([rows[i] for i in going.tolist()]).requires_grad_(update < limit)
            push, made = difference(inner, here, level)
        gap[going] = norms(push.detach())
        nfe[going] += made
        met = (gap[going] <= target).view(-1, group).any(dim=1).repeat_interleave(group)
        left = (~met).nonzero()[:, 0]
        if update == limit or len(left) == 0:
            break
        check_flow(push, denoiser, "latents")  # a loss may have terms of the latents alone
        with torch.enable_grad():
            value, more = loss(inner.select(left), here[left], push[left])
            (slope,) = torch.autograd.grad(value.sum(), here)
        backward[going[left]] += (made[left] if isinstance(made, Tensor) else made) + more
        going = going[left]
        nfe[going] += more
        for i, gradient in zip(going.tolist(), slope[left], strict=True):
            rows[i].grad = gradient
        stepper.step()
        stepper.zero_grad()
    return Descent(torch.stack(rows), gap, nfe, backward)
