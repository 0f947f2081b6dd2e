"""A small training to be watched, and a process of a distributed one."""

import hashlib
import random
import sys

import numpy as np
import torch
from accelerate import Accelerator
from adapters.tiny_sd import build_with_text

from sidestep import CopyWatch
from sidestep.similarity.pixels import Pixels

CAPTIONS = ["a fox", "a ship", "a tree", "a cat"]


def training_pictures(count=4, seed=0):
    r = np.random.default_rng(seed)
    noise = r.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [(noise[i], CAPTIONS[i % len(CAPTIONS)]) for i in range(count)]


def watch(**settings):
    given = {"every": 1, "steps": 2, "resolution": 8, "recipe": Pixels(4), "rate": 0.2}
    return CopyWatch(settings.pop("training", training_pictures()), **given | settings)


class Noisy:
    """A logger that uses up everybody's random numbers."""

    def log(self, step, values, pictures):
        random.random(), np.random.rand(), torch.rand(3)


def modules(pipe, **other):
    names = ("unet", "text_encoder", "vae", "tokenizer", "scheduler")
    return {name: getattr(pipe, name) for name in names} | other


def numbers():
    """The next global random numbers."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def seed():
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(5)


def step(network, pipe, optimizer, between=lambda: None, backward=torch.Tensor.backward):
    """One step; between its backward pass and the optimizer's step something may happen."""
    x, t = torch.randn(2, 4, 8, 8), torch.randint(0, 1000, (2,))
    hidden = torch.nn.functional.dropout(torch.randn(2, 3, 8), random.random())
    backward((network(x, t, hidden).sample - np.random.rand()).square().mean())
    between()
    optimizer.step()
    optimizer.zero_grad()


def digest(network, optimizer):
    """A hash of weights and of what the optimizer remembers, to the bit."""
    found = hashlib.sha256()
    tensors = [*network.state_dict().values()]
    for state in optimizer.state_dict()["state"].values():
        tensors += [torch.as_tensor(v) for v in state.values()]
    for tensor in tensors:
        found.update(tensor.detach().float().numpy().tobytes())
    return found.hexdigest()


def main(watched):
    """Two steps of a process of a distributed training; prints its hash and what it was told."""
    accelerator = Accelerator(cpu=True)
    pipe = build_with_text()
    seed()
    torch.manual_seed(accelerator.process_index)
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), lr=1e-2)
    network, optimizer = accelerator.prepare(pipe.unet, optimizer)
    watching, told = watch() if watched else None, []
    for number in range(2):
        if watching:
            told.append(watching(number, **modules(pipe, unet=network)) is not None)
            if told[-1]:
                accelerator.set_trigger()
            assert accelerator.check_trigger()
        step(network, pipe, optimizer, backward=accelerator.backward)
    print(type(network).__name__, digest(pipe.unet, optimizer), told)
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1] == "watched")
