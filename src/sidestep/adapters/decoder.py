"""Autoencoders that decode in the precision they need and are afterwards what they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def overflows(vae: Any) -> bool:
    """Whether an autoencoder is in half precision and cannot decode in it, as SDXL's."""
    half = next(vae.parameters()).dtype == torch.float16
    return half and bool(getattr(vae.config, "force_upcast", False))


@contextmanager
def wide(vae: Any) -> Iterator[Any]:
    """The autoencoder in float32 inside the block, if half precision overflows in it."""
    if not overflows(vae):
        yield vae
        return
    try:
        yield vae.float()
    finally:
        vae.half()


class Decoder(nn.Module):
    """A training's autoencoder, as a pipeline may use it: latents may be of any precision.

    It stays in its own, where pipelines cast it and do not always cast it back.
    """

    def __init__(self, vae: nn.Module) -> None:
        """Wrap an autoencoder of diffusers; it is shared."""
        super().__init__()
        self.vae = vae

    def __getattr__(self, name: str) -> Any:
        """What is not here is the autoencoder's."""
        vae = self._modules["vae"]
        return vae if name == "vae" else getattr(vae, name)

    @property
    def dtype(self) -> torch.dtype:
        """In which it decodes, so that a pipeline has nothing to cast."""
        return torch.float32 if overflows(self.vae) else next(self.vae.parameters()).dtype

    def to(self, *_: Any, **__: Any) -> "Decoder":
        """As it is."""
        return self

    def decode(self, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the autoencoder decodes them."""
        with wide(self.vae) as vae:
            return vae.decode(latents.to(next(vae.parameters()).dtype), *args, **kwargs)
