"""What commands share that embed training pictures: where they are, and how it is done."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sidestep.cli._engine import DEFAULT, embed_engine, engine_option
from sidestep.cli._methods import recipe_option
from sidestep.errors import SidestepError

if TYPE_CHECKING:
    from sidestep.audit.embedding import Engine
    from sidestep.similarity.base import Recipe
    from sidestep.sources.base import Collection


class Pictures(NamedTuple):
    """Training pictures as the command line names them, and how they are embedded."""

    source: str
    image_column: str
    caption_column: str | None
    recipe: dict[str, Any]  # name and settings
    side: int
    batch: int
    engine: str
    workers: int | None

    def open(self) -> "tuple[Collection, Recipe]":
        """The collection and the recipe; raises what opening either of them raises."""
        from sidestep.audit.recipes import recipe
        from sidestep.sources.base import Columns
        from sidestep.sources.collection import open_collection

        columns = Columns(self.image_column, self.caption_column)
        return open_collection(self.source, columns), recipe(**self.recipe)

    def embed(self) -> "Engine":
        """Where they are embedded; raises MissingExtra without Ray where it is asked for."""
        return embed_engine(self.engine, self.workers)


def outside(out: Path, source: str) -> None:
    """Raise SidestepError where an output folder lies in a folder of pictures.

    What is written there would be part of the source the next time.
    """
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise SidestepError(
            f"{out} lies inside {source}, so its files would be part of the source; give a folder "
            "outside with --out"
        )


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--image-column and --caption-column of a command."""
    command = click.option(
        "--caption-column", help="Captions of a table.  [default: caption or text]"
    )(command)
    return click.option(
        "--image-column", default="image", show_default=True, help="Images of a table."
    )(command)


def picture_options(command: Callable[..., None]) -> Callable[..., None]:
    """SOURCE and how it is embedded, which a command gets as one `Pictures`: `pictures`."""

    @click.argument("source")
    @recipe_option(None, required=True)
    @click.option(
        "--side",
        type=click.IntRange(8, 2048),
        default=256,
        show_default=True,
        help="Pixels of the centre square that pictures are compared at, as in training.",
    )
    @column_options
    @click.option(
        "--batch",
        type=click.IntRange(1, 256),
        default=32,
        show_default=True,
        help="Pictures embedded at once.",
    )
    @engine_option
    @click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Decoding processes; of the engine ray its workers, each with one.  "
        f"[default: one a core; ray {DEFAULT}]",
    )
    @wraps(command)
    def given(**options: Any) -> None:
        pictures = Pictures(**{name: options.pop(name) for name in Pictures._fields})
        command(pictures=pictures, **options)

    return given
