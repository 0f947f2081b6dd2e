"""Seeds that belong to an image: batch size, order and resume point change nothing."""

import hashlib

import torch
from torch import Tensor


def image_seed(run_seed: int, prompt: str, draw: int) -> int:
    """The seed of one image, in [0, 2**63): a hash of the run's seed, the prompt and the draw."""
    return _hashed(f"{run_seed}\x1f{draw}\x1f{prompt}")


def stream(seed: int, purpose: str) -> torch.Generator:
    """Random numbers for one purpose of the image with that seed, apart from its first noise."""
    return torch.Generator().manual_seed(_hashed(f"{seed}\x1f{purpose}"))


def _hashed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def noise(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """First noise (B, *shape), float32 on the CPU; row b depends on seeds[b] alone."""
    if not seeds:
        raise ValueError("there are no seeds; give one for each image")
    rows = [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        for seed in seeds
    ]
    return torch.stack(rows)
