"""What commands that sample share: the model, and the LoRA on it."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from sidestep.adapters.stable_diffusion import StableDiffusion


class Chosen(NamedTuple):
    """A model as the command line names it."""

    source: str
    lora: Path | None
    lora_scale: float

    @property
    def name(self) -> str:
        """The model and the LoRA on it, as records name them."""
        return self.source if self.lora is None else f"{self.source} + {self._lora()}"

    def _lora(self) -> str:
        return f"{self.lora}" + ("" if self.lora_scale == 1 else f" x {self.lora_scale:g}")

    def base(self) -> "Chosen":
        """The model without the LoRA."""
        return Chosen(self.source, None, 1.0)

    def load(self, device: str = "cpu") -> "StableDiffusion":
        """Load it; raises what `sidestep.adapters.stable_diffusion.load` raises."""
        from sidestep.adapters import stable_diffusion
        from sidestep.models import embedded

        folder = embedded.folder() if self.source == "embedded" else Path(self.source)
        return stable_diffusion.load(folder, device, lora=self.lora, lora_scale=self.lora_scale)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """MODEL, --lora and --lora-scale of a command, which gets them as one `Chosen`: `model`."""

    @click.argument("model")
    @click.option(
        "--lora",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="LoRA on the model: a .safetensors file, or the folder that a training left.",
    )
    @click.option(
        "--lora-scale",
        type=float,
        metavar="WEIGHT",
        help="Weight of the LoRA, 1 = as trained.  [default: 1]",
    )
    @wraps(command)
    def chosen(model: str, lora: Path | None, lora_scale: float | None, **more: Any) -> None:
        if lora is None and lora_scale is not None:
            raise click.UsageError("--lora-scale weighs a LoRA; name its file with --lora")
        command(model=Chosen(model, lora, 1.0 if lora_scale is None else lora_scale), **more)

    return chosen
