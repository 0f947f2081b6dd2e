"""A diffusers pipeline as it is, as a model to sample and to audit.

Loop, scheduler and guidance formula are the pipeline's own; a rule goes in through
`sidestep.guide`. So what that guides, and makes pictures of prompts, can be audited.
"""

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidestep.adapters import lora as adapter
from sidestep.adapters import weights
from sidestep.adapters.decoder import wide
from sidestep.adapters.pipeline import guide
from sidestep.adapters.pipeline.handle import NETWORKS
from sidestep.adapters.pipeline.layouts import layout_of
from sidestep.adapters.pixels import pixels, whole
from sidestep.errors import BadModel, SidestepWarning
from sidestep.guidance.base import Rule
from sidestep.sampling.trace import Trace

# Text to pictures, among the classes that `sidestep.guide` knows.
CLASSES = (
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "PixArtAlphaPipeline",
    "PixArtSigmaPipeline",
    "SanaPipeline",
    "HunyuanDiTPipeline",
    "AuraFlowPipeline",
    "KolorsPipeline",
    "LuminaPipeline",
    "Lumina2Pipeline",
    "ChromaPipeline",
    "CogView4Pipeline",
    "ZImagePipeline",
    "FluxPipeline",
    "QwenImagePipeline",
)
# Pad a batch to its longest prompt and mask nothing, so that each prompt is sampled alone.
UNMASKED = ("CogView4Pipeline",)
GUIDING = 2.0  # a scale at which every pipeline makes both predictions


class Pipelined:
    """A loaded text-to-image pipeline of diffusers."""

    def __init__(self, pipe: Any, resolution: int | None = None) -> None:
        """Wrap a pipeline; its networks are shared, not copied.

        Pictures are `resolution` pixels wide and high, by default what the network was trained on.
        Raises SidestepError for a class that `sidestep.guide` does not know, BadModel where
        neither the pipeline nor `resolution` says the size of a picture, and ValueError for a
        resolution that its autoencoder cannot make.
        """
        self._layout, note = layout_of(pipe)
        if note is not None:
            warnings.warn(note, SidestepWarning, stacklevel=2)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        factor = int(pipe.vae_scale_factor)
        self._side = _side(pipe) if resolution is None else whole(resolution, factor)

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height of its pictures in pixels."""
        return self._side, self._side

    @property
    def name(self) -> str:
        """The last part of the folder or Hub id it was loaded from; empty if it was built."""
        return Path(self.pipe.name_or_path or "").name

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device(self.pipe._execution_device)

    @property
    def precision(self) -> str:
        """Of its weights, such as float16."""
        return weights.precision(_network(self.pipe))

    @property
    def sampler(self) -> str:
        """The scheduler, with a hash of its settings."""
        scheduler = self.pipe.scheduler
        return f"{type(scheduler).__name__} {weights.settings(scheduler.config)}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weights of all its networks, and a LoRA's with scale.

        Inside `without_lora` it is that of the model that was loaded without one.
        """
        return weights.fingerprint(adapter.networks(self.pipe))

    @contextmanager
    def without_lora(self) -> Iterator["Pipelined"]:
        """The pipeline that the LoRA was put on, inside the block: the same to the bit."""
        with adapter.detached(self.pipe):
            yield self

    @property
    def max_tokens(self) -> int:
        """Tokens that its most patient text encoder reads of a prompt."""
        return max((most for _, most in self._readers()), default=0)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt for that encoder, before any cut; 0 where it has no tokenizer."""
        readers = sorted(self._readers(), key=lambda reader: reader[1])
        return len(readers[-1][0](prompt).input_ids) if readers else 0

    def _readers(self) -> list[tuple[Any, int]]:
        call = inspect.signature(type(self.pipe).__call__).parameters
        limit = call["max_sequence_length"].default if "max_sequence_length" in call else None
        found = [part for name, part in self.pipe.components.items() if "tokenizer" in name]
        most = [(t, int(t.model_max_length)) for t in found if t is not None]
        return [(t, own if limit is None else min(own, limit)) for t, own in most]

    @torch.no_grad()
    def call(
        self,
        rule: Rule[Any],
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        scale: float,
    ) -> tuple[NDArray[np.uint8], Trace]:
        """One batch of pictures (B, H, W, 3) RGB under a rule, and its trace.

        Each sample has a CPU generator of its own seed, so that no other sample changes it. A scale
        that the rule leaves open is `scale`, by the pipeline's own formula where it has one: at 1
        and below it would not guide at all, and the textbook's takes its place. Raises Overflow
        where half precision did not hold them, and BadModel where the pipeline makes pictures of
        another size than was asked for.
        """
        if len(prompts) > 1 and type(self.pipe).__name__ in UNMASKED:
            rows = zip(prompts, seeds, strict=True)
            each = [self.call(rule, [prompt], [seed], steps, scale) for prompt, seed in rows]
            return np.concatenate([one for one, _ in each]), Trace.cat([own for _, own in each])
        if scale <= 1:
            rule, scale = rule.with_scale(scale), GUIDING
        wide, high = self.resolution
        arguments: dict[str, Any] = {
            "prompt": list(prompts),
            self._layout.scale: scale - self._layout.shift,
            "num_inference_steps": steps,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "width": wide,
            "height": high,
            "output_type": "np",
        }
        takes = inspect.signature(type(self.pipe).__call__).parameters
        if self._layout.scale == "true_cfg_scale":  # no second prediction without one
            arguments["negative_prompt"] = [""] * len(prompts)
        # Pictures of the size that was asked for, and prompts as they were written.
        exact = ("use_resolution_binning", "clean_caption")
        arguments |= {name: False for name in exact if name in takes}
        with warnings.catch_warnings():
            # What it warns of, such as guidance that never came on, is in the trace.
            warnings.simplefilter("ignore", SidestepWarning)
            with guide(self.pipe, rule) as run:
                made = self.pipe(**arguments).images
        images = pixels(np.asarray(made))
        if images.shape[1:3] != (high, wide):
            raise BadModel(
                f"{type(self.pipe).__name__} made pictures of {images.shape[2]} x "
                f"{images.shape[1]} pixels where {wide} x {high} were asked for; give that as the "
                "resolution"
            )
        return images, run.trace

    @torch.no_grad()
    def reconstruct(self, images: NDArray[np.uint8], batch: int = 4) -> NDArray[np.uint8]:
        """Pictures (B, H, W, 3) RGB as the autoencoder leaves them, of the model's resolution."""
        with wide(self.pipe.vae) as vae:
            parts = [
                _through(vae, images[first : first + batch], self._side, self.device)
                for first in range(0, len(images), batch)
            ]
        return np.concatenate(parts)


def _network(pipe: Any) -> nn.Module:
    """The first network that predicts noise."""
    found: nn.Module = next(n for n in (getattr(pipe, k, None) for k in NETWORKS) if n is not None)
    return found


def _side(pipe: Any) -> int:
    latent = getattr(pipe, "default_sample_size", None)
    latent = latent or getattr(_network(pipe).config, "sample_size", None)
    if not isinstance(latent, int):
        raise BadModel(
            f"{type(pipe).__name__} does not say what size its pictures have; give a resolution"
        )
    return latent * int(pipe.vae_scale_factor)


def _through(
    vae: Any, images: NDArray[np.uint8], side: int, device: torch.device
) -> NDArray[np.uint8]:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True) / 127.5 - 1
    first = next(vae.parameters())
    video = first.ndim == 5  # made for films: a picture is one frame
    x = x.to(device=device, dtype=first.dtype)
    encoded = vae.encode(x[:, :, None] if video else x)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
    made: Tensor = vae.decode(latents).sample
    made = (made[:, :, 0] if video else made).float()
    return pixels((made / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
