"""A run that costs next to nothing: a closed-form stand-in, several methods, many small units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sidestep.guidance import Prediction
from sidestep.runs import run as runner
from sidestep.runs.generate import Job, method
from sidestep.sampling import NoiseSchedule

METHODS = [
    method("constant", "plain"),
    replace(method("static", "static 0.7", time=0.7), curve="static", strength=0.7),
    replace(method("static", "static 0.4", time=0.4), curve="static", strength=0.4),
    method("dynamic", "dynamic"),
]
JOBS = [Job(f"prompt {i}", draw, kind) for i, kind in enumerate(["target", "ordinary"] * 4)
        for draw in range(9)]  # 72: units of 32, 32 and 8 images  # fmt: skip
SETTINGS = {"seed": 3, "steps": 5, "batch": 2}


class Toy:
    """Pulls towards a picture that its prompt names; every sample is alone."""

    schedule = NoiseSchedule.scaled_linear()
    latent_shape = (3, 6, 6)

    def __init__(self, pull=None):
        self.pull = pull

    def denoiser(self, prompts):
        return Toy(torch.tensor([float(p.split()[-1]) for p in prompts])[:, None, None, None])

    def select(self, rows):
        return Toy(self.pull[rows])

    def __call__(self, x, level, needs):
        cond = (x - level.alpha * torch.tanh(self.pull - 3)) / level.sigma
        return Prediction(0.5 * x, cond, level.time)

    def decode(self, latents):
        pixels = (latents.clamp(-1, 1) * 127 + 128).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def score(records, images):
    """Scores that need the pictures and all draws of a prompt."""
    bright = images.mean(axis=(1, 2, 3)) / 255
    spread = {
        r.prompt: float(np.std([b for b, o in zip(bright, records, strict=True)
                                if o.prompt == r.prompt]))
        for r in records
    }  # fmt: skip
    return [
        replace(
            r, similarity={"bright": float(b)}, recipe="bright", threshold=0.5, copy=bool(b > 0.5),
            agreement=1 + int(b * 997) % 9, spread=spread[r.prompt], nearest="x",
        )
        for r, b in zip(records, bright, strict=True)
    ]  # fmt: skip


def fill(out, **more):
    """The run, into a folder; its records."""
    return runner.fill(
        Path(out), more.pop("model", None) or Toy(), JOBS, METHODS, score=score,
        header={"model": {"name": "toy"}}, **SETTINGS | more,
    )  # fmt: skip
