"""Where the numbers of a watch may go beside its file: TensorBoard, Weights & Biases, your own."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sidestep.errors import MissingExtra
from sidestep.similarity.base import Images

PREFIX = "sidestep"
INSTALL = "Install with: pip install 'sidestep[watch]'"


class Shown(NamedTuple):
    """A picture to look at."""

    image: Images  # (H, W, 3): the picture made; right of it the nearest training picture, if known
    caption: str


class Logger(Protocol):
    """Something that is told each report."""

    def log(self, step: int, values: Mapping[str, float], pictures: Sequence[Shown]) -> None:
        """Take the numbers of a step by name, and its most similar pictures, closest first."""
        ...


class TensorBoard:
    """Scalars and pictures for TensorBoard, by a writer of the training or one of its own."""

    def __init__(self, writer: Any) -> None:
        """`writer` is a SummaryWriter, of torch or of tensorboardX, or a folder to write into.

        Raises MissingExtra for a folder where the package tensorboard is not installed.
        """
        self._writer = _writer(writer) if isinstance(writer, str | Path) else writer

    def log(self, step: int, values: Mapping[str, float], pictures: Sequence[Shown]) -> None:
        """Write and flush."""
        for name, value in values.items():
            self._writer.add_scalar(f"{PREFIX}/{name}", value, step)
        for place, shown in enumerate(pictures):
            tag = f"{PREFIX}/closest/{place + 1}"
            self._writer.add_image(tag, shown.image, step, dataformats="HWC")
            self._writer.add_text(tag, shown.caption, step)
        self._writer.flush()


class WandB:
    """Scalars and pictures for a run of Weights & Biases that the training has begun.

    Its own step counts what the training logs; numbers of a watch lie over `sidestep/step`, so
    neither has to wait for the other. Whether anything leaves the machine is the run's setting.
    """

    def __init__(self, run: Any) -> None:
        """`run` is what `wandb.init` gave; MissingExtra where the package is not installed."""
        if find_spec("wandb") is None:
            raise MissingExtra("wandb", INSTALL, "logging to Weights & Biases")
        self._run = run
        run.define_metric(f"{PREFIX}/step")
        run.define_metric(f"{PREFIX}/*", step_metric=f"{PREFIX}/step")

    def log(self, step: int, values: Mapping[str, float], pictures: Sequence[Shown]) -> None:
        """Hand over to the run."""
        import wandb

        row: dict[str, Any] = {f"{PREFIX}/step": step}
        row |= {f"{PREFIX}/{name}": value for name, value in values.items()}
        if pictures:
            row[f"{PREFIX}/closest"] = [wandb.Image(s.image, caption=s.caption) for s in pictures]
        self._run.log(row)


def _writer(folder: str | Path) -> Any:
    if find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", INSTALL, "writing for TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder))
    return writer
