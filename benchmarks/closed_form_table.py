"""Print the table of docs/closed-form.md: every rule in every closed-form world.

Usage: python benchmarks/closed_form_table.py
"""

import math
from typing import Any

from sidestep.guidance.base import Rule
from sidestep.guidance.constant import Constant
from sidestep.guidance.dynamic import Dynamic
from sidestep.guidance.static import Static
from sidestep.models.closed_form_data import (
    World,
    emoji_points,
    generalizer_world,
    memorizer_world,
    spike_world,
)
from sidestep.rng import noise
from sidestep.sampling.loop import sample
from sidestep.sampling.noise import NoiseSchedule
from sidestep.sampling.solvers import DDIM

PAPER: dict[str, Any] = {"earliest": 1, "fallback": None}

RULES: dict[str, Rule[Any]] = {
    "plain 7.5": Constant(7.5),
    "static, time 0.85, before 0": Static(0.85),
    "static, time 0.7, before 0": Static(0.7),
    "static, time 0.5, before 0": Static(0.5),
    "static, time 0.85, before -2": Static(0.85, before=-2.0),
    "static, time 0.5, before -2": Static(0.5, before=-2.0),
    "static, time 0.5, before 1": Static(0.5, before=1.0),
    "dynamic to the letter, before 0": Dynamic(**PAPER),
    "dynamic to the letter, before -2": Dynamic(before=-2.0, **PAPER),
    "dynamic to the letter, before 1": Dynamic(before=1.0, **PAPER),
    "dynamic, fallback 0.5, before 0": Dynamic(earliest=1, fallback=0.5),
    "dynamic, fallback 0.5, before -2": Dynamic(before=-2.0, earliest=1, fallback=0.5),
    "dynamic, fallback 0.5, before -7.5": Dynamic(before=-7.5, earliest=1, fallback=0.5),
    "dynamic, defaults, before 0": Dynamic(),
    "dynamic, defaults, before -2": Dynamic(before=-2.0),
    "dynamic, defaults, before -7.5": Dynamic(before=-7.5),
}


def worlds() -> dict[str, World]:
    """The columns of the table."""
    white, colour = emoji_points(), emoji_points(ground="random")
    small = {"broad": 0.5, "groups": 40}
    large = {"broad": 0.8, "groups": 8}
    return {
        "A memorizer": memorizer_world(white),
        "A without exits": memorizer_world(white, exits=False),
        "B spikes, 40 groups": spike_world(white, **small),  # type: ignore[arg-type]
        "B spikes, 8 groups": spike_world(white, **large),  # type: ignore[arg-type]
        "C colours, 40 groups": spike_world(colour, **small),  # type: ignore[arg-type]
        "C colours, 8 groups": spike_world(colour, **large),  # type: ignore[arg-type]
        "D generalizer": generalizer_world(white),
    }


def cell(world: World, rule: Rule[Any]) -> str:
    """Copies / on-prompt of one run and, for a dynamic rule, the share its own signal opened."""
    first = noise(list(range(len(world.target))), tuple(world.pictures.shape[1:]))
    run = sample(world.denoiser, first, rule, NoiseSchedule.scaled_linear(), solver=DDIM(clip=4.0))
    shares = world.shares(run.latents)
    text = f"{shares.copies:.2f} / {shares.on_prompt:.2f}"
    if not isinstance(rule, Dynamic):
        return text
    signal = (run.trace.transition >= 0) & ~run.trace.fell_back
    return f"{text} ({math.floor(100 * float(signal.double().mean()) + 0.5)} %)"


def main() -> None:
    """Print the table as Markdown."""
    columns = worlds()
    print("| rule |", " | ".join(columns), "|")
    print("|" + "---|" * (1 + len(columns)))
    for name, rule in RULES.items():
        print(f"| {name} |", " | ".join(cell(w, rule) for w in columns.values()), "|", flush=True)


if __name__ == "__main__":
    main()
