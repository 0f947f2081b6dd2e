"""Fine-tune a LoRA on a folder of pictures with captions, for a Stable Diffusion 1 or 2 folder.

    python examples/twenty_pictures.py --out out/twenty
    python examples/finetune_lora.py out/twenty/training --out out/lora

The captions are NAME.txt beside NAME.png, or metadata.jsonl. Without --model it is the embedded
model. The LoRA is out/lora/pytorch_lora_weights.safetensors, in the format of diffusers.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from sidestep.models import embedded
from sidestep.sources.collection import open_collection
from sidestep.sources.pictures import Refused, content, decode

# Convolutions too: with attention alone a few pictures are learned slowly.
UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2"]
# Captions with words the model does not know are hardly told apart until it learns them.
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def read(source: str, side: int) -> tuple[list[str], Tensor]:
    """Captions, and pictures (N, 3, side, side) in [-1, 1]."""
    captions, images = [], []
    for item in open_collection(source).items():
        try:
            if isinstance(item.data, str):
                raise Refused(item.data)
            data = item.data if isinstance(item.data, bytes) else content(item.data)
            images.append(decode(data, side))
        except Refused as why:
            sys.exit(f"{item.path}: {why}")
        if item.caption is None:
            sys.exit(f"{item.path} has no caption; write one into a .txt file of its name")
        captions.append(item.caption)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return captions, pixels.float() / 127.5 - 1


@torch.no_grad()
def encode(pipe: Any, images: Tensor) -> Tensor:
    """Pictures as latents, one at a time: a large autoencoder fills the memory."""
    latents = [pipe.vae.encode(image[None]).latent_dist.mean for image in images]
    return torch.cat(latents) * pipe.vae.config.scaling_factor


def batches(count: int, size: int, g: torch.Generator) -> Iterator[Tensor]:
    """Numbers of pictures: each as often as the others, in random order."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=g)])
        batch, left = left[:size], left[size:]
        yield batch


def timesteps(count: int, last: int, g: torch.Generator) -> Tensor:
    """Noise levels: more of the high ones, where a picture is decided, spread over the range."""
    even = (torch.rand(count, generator=g) + torch.randperm(count, generator=g)) / count
    return (even.sqrt() * last).long()


def add_lora(network: Any, rank: int, layers: list[str]) -> list[torch.nn.Parameter]:
    """Put a LoRA on those layers of a network; only its weights are trained."""
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers))
    return [p for p in network.parameters() if p.requires_grad]


def train(pipe: Any, captions: list[str], latents: Tensor, options: argparse.Namespace) -> None:
    """Put a LoRA on UNet and text encoder and teach them to predict the noise in the latents."""
    torch.manual_seed(options.seed)  # the first weights of the LoRA
    unet, words, scheduler = pipe.unet, pipe.text_encoder, pipe.scheduler
    weights = add_lora(unet, options.rank, UNET) + add_lora(words, options.rank, TEXT)
    tokens = pipe.tokenizer(
        captions, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    g, start = torch.Generator().manual_seed(options.seed), time.monotonic()
    numbers = batches(len(latents), options.batch, g)
    for step in range(1, options.steps + 1):
        batch = next(numbers)
        clean = latents[batch]
        noise = torch.randn(clean.shape, generator=g)
        t = timesteps(len(batch), scheduler.config.num_train_timesteps, g)
        noisy = scheduler.add_noise(clean, noise, t)
        velocity = scheduler.config.prediction_type == "v_prediction"
        wanted = scheduler.get_velocity(clean, noise, t) if velocity else noise
        output = unet(noisy, t, words(tokens[batch]).last_hidden_state).sample
        loss = torch.nn.functional.mse_loss(output, wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == options.steps:
            seconds = time.monotonic() - start
            print(f"step {step} of {options.steps}  loss {loss.item():.4f}  {seconds:.0f} s")


def save(pipe: Any, folder: Path) -> None:
    """Write the LoRA as diffusers reads it.

    Under peft's names: convolutions have none of diffusers' own, and a file with both kinds is
    read in part.
    """
    parts = [get_peft_model_state_dict(part) for part in (pipe.unet, pipe.text_encoder)]
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=parts[0], text_encoder_lora_layers=parts[1]
    )


def main() -> None:
    """Read the options, train, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", help="folder, .tar or .parquet of pictures with captions")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", default=embedded.folder(), help="default: the embedded model")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--resolution", type=int, help="default: that of the model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pipe = StableDiffusionPipeline.from_pretrained(
        options.model, safety_checker=None, dtype=torch.float32
    )
    side = options.resolution or pipe.unet.config.sample_size * pipe.vae_scale_factor
    captions, images = read(options.pictures, side)
    train(pipe, captions, encode(pipe, images), options)
    save(pipe, options.out)
    print(f"{len(captions)} pictures; the LoRA is in {options.out}")


if __name__ == "__main__":
    main()
