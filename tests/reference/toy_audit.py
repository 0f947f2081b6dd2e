"""An audit that takes seconds: a stand-in that memorizes six of twelve pictures.

Until time 0.6 the prediction for a memorized caption pulls towards its picture; later it does so
only for samples that hold half of it, so guidance that waits is out of the basin.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sidestep.audit.embedding import here
from sidestep.audit.engines import Engines
from sidestep.audit.request import Material, Request, Subject
from sidestep.audit.run import audit
from sidestep.guidance import Prediction
from sidestep.runs.generate import method
from sidestep.sampling import NoiseSchedule
from sidestep.similarity.pixels import Pixels
from sidestep.sources.base import Item

SIDE = 12
MEMORIZED, PICTURES, CONTROLS = 6, 12, 240
HERE = Engines(embed=here(workers=1))
REQUEST = Request(
    draws=4, ordinary=6, empty=2, steps=10, batch=4, tries=("static", "random-words"), tried_draws=2
)


def pattern(name):
    """A smooth picture (SIDE, SIDE, 3) of a name."""
    coarse = np.random.default_rng(abs(hash_of(name))).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def hash_of(name):
    """A number of a name, the same in every process."""
    return int.from_bytes(name.encode()[-8:], "big")


class Drawn:
    """Pictures of names as a collection; each is under its name as the caption."""

    def __init__(self, *names):
        self.names = names

    def count(self):
        return len(self.names)

    def items(self):
        for name in self.names:
            memory = io.BytesIO()
            Image.fromarray(pattern(name)).save(memory, "PNG")
            yield Item(f"{name}.png", memory.getvalue(), name)


TRAINING = [f"picture {i}" for i in range(PICTURES)]
MEMORY = {
    name: torch.from_numpy(pattern(name).copy()).permute(2, 0, 1) / 127.5 - 1 for name in TRAINING
}


class Toy:
    """The stand-in; every sample is alone."""

    schedule = NoiseSchedule.scaled_linear()
    latent_shape = (3, SIDE, SIDE)
    resolution = (SIDE, SIDE)
    fingerprint = "toy"
    precision = "float32"

    def __init__(self, pull=None, memorized=MEMORIZED):
        self.pull, self.memorized = pull, memorized

    def denoiser(self, prompts):
        known = TRAINING[: self.memorized]
        none = torch.full(self.latent_shape, torch.nan)
        pull = torch.stack([MEMORY[p] if p in known else none for p in prompts])
        return Toy(pull, self.memorized)

    def select(self, rows):
        return Toy(self.pull[rows], self.memorized)

    def __call__(self, x, level, needs):
        free = torch.tanh(2 * x)
        # How much of the picture is in the sample already, 1 = all of it.
        pull = self.pull.flatten(1)
        share = (x.flatten(1) * pull).sum(1) / (pull.square().sum(1) * level.alpha)
        taken = ((share > 0.5) | (level.time > 0.6)) & ~pull.isnan().any(1)
        # Guidance with scale 7.5 then leads exactly to the picture.
        near_goal = free + (self.pull.nan_to_num() - free) / 7.5
        goal = torch.where(taken[:, None, None, None], near_goal, free)
        uncond, cond = ((x - level.alpha * g) / level.sigma for g in (free, goal))
        return Prediction(uncond, cond, level.time)

    def decode(self, latents):
        pixels = (latents.clamp(-1, 1) * 127 + 128).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())

    def reconstruct(self, images):
        return images


def material(**more):
    """Twelve training pictures, and controls that nobody trained on."""
    given = Material(
        images=Drawn(*TRAINING), source="toys", recipe=Pixels(6), side=SIDE,
        controls=Drawn(*(f"control {i}" for i in range(CONTROLS))), controls_source="other toys",
        ordinary=[f"ordinary {i}" for i in range(8)], ordinary_source="made up",
    )  # fmt: skip
    return replace(given, **more)


def plain(folder):
    """A report of nothing, for audits whose report nobody reads."""
    (folder / "report.html").write_text("an audit", encoding="utf-8")


def run(out, *, model=None, base=None, how=None, request=REQUEST, present=None,
        engines=HERE, **more):  # fmt: skip
    """The audit of the stand-in."""
    subject = Subject(model or Toy(), "toy", how or method("constant"), base=base)
    return audit(
        Path(out), subject, material(**more), request, command="sidestep audit toy",
        present=present or plain, engines=engines,
    )  # fmt: skip
