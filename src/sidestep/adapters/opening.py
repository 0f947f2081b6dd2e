"""A model of any family from a folder or the Hub, ready to be sampled and audited."""

from pathlib import Path

import torch

from sidestep.adapters.checkpoints import FAMILY, ready
from sidestep.adapters.pipelined import CLASSES, Pipelined
from sidestep.adapters.stable_diffusion import StableDiffusion

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def open_model(
    source: Path | str,
    device: torch.device | str = "cpu",
    *,
    precision: str = "float32",
    resolution: int | None = None,
    lora: Path | str | None = None,
    lora_scale: float = 1.0,
) -> StableDiffusion | Pipelined:
    """Load a pipeline folder of diffusers, or a Hub id.

    A Stable Diffusion 1 or 2 runs in our own loop, where mitigations have a place; every other
    family of `pipelined.CLASSES` in its own. `precision` is one of PRECISIONS; `resolution` is the
    side of the pictures in pixels, by default what the network was trained on; `lora` and its
    weight are those of `sidestep.load`. Raises BadModel and MissingExtra as that does.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it is one of {', '.join(PRECISIONS)}")
    known = (FAMILY, *CLASSES)
    pipe = ready(source, device, lora, lora_scale, families=known, dtype=PRECISIONS[precision])
    kind = StableDiffusion if type(pipe).__name__ == FAMILY else Pipelined
    return kind(pipe, resolution)
