"""The embedded model: a small Stable Diffusion that memorizes 30 scenes, and its pictures."""

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

from sidestep.errors import BadModel


def folder() -> Path:
    """Where the model lies, in the folder format of diffusers' StableDiffusionPipeline."""
    with as_file(files(__package__) / "weights") as path:
        if not (path / "model_index.json").is_file():
            raise BadModel(
                f"the embedded model is not in {path}; the package is incomplete: "
                "install it again, or train the model with `make train`"
            )
        return path


def fingerprint() -> str:
    """SHA-256 over the model's weights, one file after the other by name."""
    digest = hashlib.sha256()
    for file in sorted(folder().rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
