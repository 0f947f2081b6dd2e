"""What commands that sample share: the model, the LoRA on it, and how it is loaded."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from sidestep.adapters.pipelined import Pipelined
    from sidestep.adapters.stable_diffusion import StableDiffusion

PRECISIONS = ("float32", "float16", "bfloat16")


class Chosen(NamedTuple):
    """A model as the command line names it."""

    source: str
    lora: Path | None = None
    lora_scale: float = 1.0
    device: str = "cpu"
    precision: str = "float32"
    resolution: int | None = None

    @property
    def name(self) -> str:
        """The model and the LoRA on it, as records name them."""
        return self.source if self.lora is None else f"{self.source} + {self._lora()}"

    def _lora(self) -> str:
        from sidestep.audit.spelling import number

        return f"{self.lora}" + ("" if self.lora_scale == 1 else f" x {number(self.lora_scale)}")

    @property
    def loading(self) -> tuple[str, ...]:
        """The options beside --lora that load the same model on another machine."""
        given = () if self.precision == PRECISIONS[0] else ("--precision", self.precision)
        side = () if self.resolution is None else ("--resolution", str(self.resolution))
        return given + side

    def base(self) -> "Chosen":
        """The model without the LoRA."""
        return self._replace(lora=None, lora_scale=1.0)

    def load(self) -> "StableDiffusion | Pipelined":
        """Load it; raises what `sidestep.adapters.opening.open_model` raises."""
        from sidestep.adapters import opening
        from sidestep.models import embedded

        folder = embedded.folder() if self.source == "embedded" else Path(self.source)
        return opening.open_model(
            folder,
            self.device,
            precision=self.precision,
            resolution=self.resolution,
            lora=self.lora,
            lora_scale=self.lora_scale,
        )


OPTIONS = (
    click.argument("model"),
    click.option(
        "--lora",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="LoRA on the model: a .safetensors file, or the folder that a training left.",
    ),
    click.option(
        "--lora-scale",
        type=float,
        metavar="WEIGHT",
        help="Weight of the LoRA, 1 = as trained.  [default: 1]",
    ),
    click.option("--device", default="cpu", show_default=True, help="Where the network runs."),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="float32",
        show_default=True,
        help="Of the model's weights.",
    ),
    click.option(
        "--resolution",
        type=click.IntRange(min=8),
        metavar="PIXELS",
        help="Side of the pictures.  [default: what the model was trained on]",
    ),
)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """MODEL and how it is loaded, which a command gets as one `Chosen`: `model`."""

    @wraps(command)
    def chosen(model: str, lora: Path | None, lora_scale: float | None, **more: Any) -> None:
        if lora is None and lora_scale is not None:
            raise click.UsageError("--lora-scale weighs a LoRA; name its file with --lora")
        weight = 1.0 if lora_scale is None else lora_scale
        loaded = {name: more.pop(name) for name in ("device", "precision", "resolution")}
        command(model=Chosen(model, lora, weight, **loaded), **more)

    for option in reversed(OPTIONS):
        chosen = option(chosen)
    return chosen
