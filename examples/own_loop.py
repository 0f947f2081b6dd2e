"""A rule in a sampling loop of your own: three calls, `init`, `needs` and `step`.

The loop is plain DDIM. The network is a stand-in of a few lines; put yours in its place.
"""

from typing import Any

import torch
from torch import Tensor

import sidestep
from sidestep.guidance import Prediction, Rule

ALPHA_BAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, dim=0)


def network(x: Tensor, t: int, prompt: Tensor | None) -> Tensor:
    """A stand-in: the noise in x (B, 4), and more of it the more a prompt (B, 4) insists.

    Each sample's prompt lets go at another time, which is where the gap is smallest.
    """
    kept = ALPHA_BAR[t]
    noise = x * (1 - kept).sqrt() / (1 - kept / 2)
    if prompt is None:
        return noise
    lets_go = torch.linspace(0.85, 0.6, len(x)).double()
    return noise + (0.2 + 3 * (t / 1000 - lets_go).abs())[:, None] * prompt


def sample(rule: Rule[Any], x: Tensor, prompt: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Clean latents (B, 4) from first noise x, and whether guidance was on, (T, B)."""
    timesteps = torch.linspace(999, 0, steps + 1).round().long().tolist()
    on = []
    state = rule.init(len(x), x.device)  # the rule's memory of this batch
    for t, after in zip(timesteps, [*timesteps[1:-1], None], strict=False):
        time = t / 1000  # diffusion time in [0, 1], 1 = noise
        needs = rule.needs(time)  # which of the two predictions this step is worth
        uncond = network(x, t, None) if needs.uncond else None
        cond = network(x, t, prompt) if needs.cond else uncond
        prediction = Prediction(cond if uncond is None else uncond, cond, time)
        guided, state = rule.step(prediction, state)
        x = ddim(x, guided.noise, ALPHA_BAR[t], 1 if after is None else ALPHA_BAR[after])
        on.append(guided.on)
    return x, torch.stack(on)


def ddim(x: Tensor, noise: Tensor, here: Tensor, there: Tensor | int) -> Tensor:
    """One step between two values of alpha bar; 1 is the clean sample."""
    clean = (x - (1 - here) ** 0.5 * noise) / here**0.5
    return there**0.5 * clean + (1 - there) ** 0.5 * noise


def main() -> None:
    """Sample four latents with two rules."""
    torch.manual_seed(0)
    x, prompt = torch.randn(4, 4).double(), torch.randn(4, 4).double()
    rules = {
        "static": sidestep.Static(time=0.5, before=0.0, after=7.5),
        "dynamic": sidestep.Dynamic(before=-2.0, after=7.5),
    }
    for name, rule in rules.items():
        _, on = sample(rule, x, prompt, steps=25)
        print(f"{name}: guidance came on at steps {(~on).sum(dim=0).tolist()}")


if __name__ == "__main__":
    main()
