"""Stage 3: put the trained parts together as a StableDiffusionPipeline folder in half precision."""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from common import WORK, MovingAverage, load_checkpoint
from train_autoencoder import FOLDER, RECIPE
from train_autoencoder import build as build_autoencoder
from train_diffusion import build_text, build_unet

OUT = Path(__file__).parents[1] / "src/sidestep/models/embedded/weights"


def main(out: Path) -> None:
    """Read the checkpoints' moving averages and write the folder."""
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "diffusion/tokenizer")
    text = build_text(tokenizer)
    unet = build_unet(RECIPE["autoencoder"]["latent_channels"])
    vae: AutoencoderKL = build_autoencoder()
    for folder, modules in (
        (WORK / "diffusion", {"text": text, "unet": unet}),
        (FOLDER, {"model": vae}),
    ):
        parts = list(modules.values())
        optimizer = torch.optim.AdamW([p for m in parts for p in m.parameters()])
        ema = MovingAverage(parts, 0.0)
        if not load_checkpoint(folder, modules, ema, optimizer):
            raise SystemExit(f"{folder} holds no checkpoint; run the training stages first")
        ema.swap()
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="linspace",
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    shutil.rmtree(out, ignore_errors=True)
    pipe.to(torch.float16).save_pretrained(out, safe_serialization=True)
    # The files are half precision; loaded without a dtype, diffusers makes its own parts float32
    # and transformers follows this entry, so the two would not fit together.
    config = out / "text_encoder/config.json"
    settings = json.loads(config.read_text()) | {"dtype": "float32"}
    config.write_text(json.dumps(settings, indent=2) + "\n")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
