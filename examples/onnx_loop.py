"""A rule around a network that is no torch module: arrays in, arrays out, as with ONNX Runtime.

`Session` stands in for `onnxruntime.InferenceSession("model.onnx")`; it is called the same way. The
rule sees the arrays as tensors that share their memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import sidestep
from sidestep.guidance import Prediction, Rule
from sidestep.sampling import NoiseSchedule

Array = NDArray[np.float32]
SCHEDULE = NoiseSchedule.scaled_linear()


class Session:
    """A little network in numpy behind ONNX Runtime's call."""

    def run(self, outputs: None, feeds: Mapping[str, Array]) -> list[Array]:
        """The noise in `sample` (B, 4) at `timestep` (B,) under `text` (B, 4)."""
        sample, text = feeds["sample"], feeds["text"]
        far = np.abs(feeds["timestep"] / 1000 - 0.7)[:, None]
        return [(0.5 * sample + (0.2 + 3 * far) * np.tanh(text)).astype(np.float32)]


def sample(rule: Rule[Any], x: Array, text: Array, empty: Array, steps: int) -> Array:
    """Clean latents (B, 4) from first noise x, with DDIM; `empty` is the text of no prompt."""
    session, state = Session(), rule.init(len(x))
    levels = SCHEDULE.grid(steps)
    for level, after in zip(levels, [*levels[1:], None], strict=True):
        timestep = np.full(len(x), level.timestep, np.float32)
        noise = [
            session.run(None, {"sample": x, "timestep": timestep, "text": words})[0]
            for words in (empty, text)
        ]
        uncond, cond = map(torch.from_numpy, noise)
        guided, state = rule.step(Prediction(uncond, cond, level.time), state)
        follow = guided.noise.numpy()
        clean = (x - level.sigma * follow) / level.alpha
        x = clean if after is None else after.alpha * clean + after.sigma * follow
    print(f"guidance came on for {int(guided.on.sum())} of {len(x)} samples")
    return x


def main() -> None:
    """Sample three latents."""
    random = np.random.default_rng(0)
    x, text = random.standard_normal((2, 3, 4)).astype(np.float32)
    made = sample(sidestep.Dynamic(before=-2.0, after=7.5), x, text, np.zeros_like(text), steps=25)
    print(f"latents of shape {made.shape}, largest {np.abs(made).max():.2f}")


if __name__ == "__main__":
    main()
