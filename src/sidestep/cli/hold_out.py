"""`sidestep hold-out`: pictures set apart before training."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli._output import (
    Column,
    json_option,
    prepare,
    print_json,
    print_paths,
    print_table,
    progress,
    warn,
)
from sidestep.cli.main import Stopped
from sidestep.errors import SidestepError

if TYPE_CHECKING:
    from sidestep.audit.hold_out import Placed


@click.command("hold-out")
@click.argument("source")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the split, outside SOURCE.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Of the readable pictures, to set apart.",
)
@click.option(
    "--recipe",
    "name",
    required=True,
    metavar="NAME",
    help="Similarity recipe that finds near-duplicates, from `sidestep methods --kind similarity`.",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    required=True,
    help="From here on two pictures are near-duplicates and stay together.",
)
@click.option(
    "--side",
    type=click.IntRange(8, 2048),
    default=256,
    show_default=True,
    help="Pixels of the centre square that pictures are compared at, as in training.",
)
@click.option(
    "--earlier",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A finished split: its pictures keep their sides.",
)
@click.option("--image-column", default="image", show_default=True, help="Images of a table.")
@click.option("--caption-column", help="Captions of a table.  [default: caption or text]")
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=32,
    show_default=True,
    help="Pictures embedded at once.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Decoding processes.  [default: one a core]"
)
@json_option
def command(
    source: str,
    out: Path,
    share: float,
    name: str,
    similarity: float,
    side: int,
    earlier: Path | None,
    image_column: str,
    caption_column: str | None,
    batch: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Set pictures apart before training, to calibrate an audit with later.

    SOURCE is what `sidestep index` takes. DIR/train gets what to train on and DIR/held-out the
    rest, with captions: hard links to a folder's pictures where that is possible, else copies.
    Near-duplicates are on one side. The choice depends on the bytes of the pictures, so the same
    pictures are always split alike. A run that was stopped goes on; another source or setting is
    refused.
    """
    from sidestep.audit.hold_out import hold_out
    from sidestep.audit.recipes import recipe
    from sidestep.sources.base import Columns
    from sidestep.sources.collection import open_collection

    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise SidestepError(
            f"{out} lies inside {source}, so its pictures would be part of the source; give a "
            "folder outside with --out"
        )
    collection, made = open_collection(source, Columns(image_column, caption_column)), recipe(name)
    prepare(out)
    try:
        with progress() as report:
            placed = hold_out(
                collection, out, made, share=share, similarity=similarity, side=side,
                earlier=earlier, batch=batch, workers=workers, report=report,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        raise Stopped(f"What is there stays in {out}; the same command goes on.") from error
    if as_json:
        print_json(placed.to_dict())
    else:
        show(placed, out)


def show(placed: "Placed", out: Path) -> None:
    """The sides as text."""
    split = placed.split
    print_table(
        f"Set apart: {split.reached:.1%} of the readable pictures, {split.settings.share:g} asked",
        [
            Column("side", ["train", "held-out"], right=False),
            Column("pictures", [str(split.train), str(split.held_out)]),
            Column(
                "groups", [str(split.groups - split.held_out_groups), str(split.held_out_groups)]
            ),
        ],
    )
    click.echo(f"the largest group of near-duplicates has {split.largest} pictures")
    click.echo(f"{placed.links} pictures are hard links to the source, {placed.copies} are copies")
    for reason, number in split.unreadable.items():
        warn(f"on neither side, because they cannot be read: {number} ({reason})")
    if split.moved:
        warn(
            f"{split.moved} pictures that {split.settings.earlier[:12]} had set apart are trained "
            "on now: a new picture ties them to trained ones"
        )
    print_paths({"train": out / "train", "held-out": out / "held-out"})
