"""`sidestep hold-out`: pictures set apart before training."""

from math import ceil
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
from sidestep.cli._pictures import Pictures, outside, picture_options
from sidestep.cli.main import Stopped

if TYPE_CHECKING:
    from sidestep.audit.splitting import Placed


@click.command("hold-out")
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
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    required=True,
    help="From here on two pictures are near-duplicates and stay together.",
)
@click.option(
    "--earlier",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A finished split: its pictures keep their sides.",
)
@picture_options
@json_option
def command(
    pictures: Pictures,
    out: Path,
    share: float,
    similarity: float,
    earlier: Path | None,
    as_json: bool,
) -> None:
    """Set pictures apart before training, to calibrate an audit with later.

    SOURCE is what `sidestep index` takes. DIR/train gets what to train on and DIR/held-out the
    rest, with captions: hard links to a folder's pictures where that is possible, else copies.
    Near-duplicates are on one side. The choice depends on the bytes of the pictures, so the same
    pictures are always split alike. A run that was stopped goes on; another source or setting is
    refused.
    """
    from sidestep.audit.splitting import hold_out

    outside(out, pictures.source)
    collection, made = pictures.open()
    prepare(out)
    try:
        with progress() as report:
            placed = hold_out(
                collection, out, made, share=share, similarity=similarity, side=pictures.side,
                earlier=earlier, batch=pictures.batch, engine=pictures.embed(), report=report,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        raise Stopped(f"What is there stays in {out}; the same command goes on.") from error
    if as_json:
        print_json(placed.to_dict())
    else:
        show(placed, out)


def show(placed: "Placed", out: Path) -> None:
    """The sides as text."""
    from sidestep.audit.request import Request

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
    click.echo(f"pictures in the largest group of near-duplicates: {split.largest}")
    click.echo(f"{placed.links} pictures are hard links to the source, {placed.copies} are copies")
    for reason, number in split.unreadable.items():
        warn(f"on neither side, because they cannot be read: {number} ({reason})")
    usual = Request().rate
    if split.held_out < (wanted := round(1 / usual) - 1):
        least = ceil(1000 / (split.held_out + 1)) / 1000  # rounded up, so that it works as typed
        warn(
            f"an audit with its usual --rate of {usual:g} needs {wanted} controls, and so many as "
            f"are set apart allow --rate {least:g}; before training, a larger --share into another "
            "folder helps"
        )
    if split.moved:
        warn(
            f"{split.moved} pictures that {split.settings.earlier[:12]} had set apart are trained "
            "on now: a new picture ties them to trained ones"
        )
    print_paths({"train": out / "train", "held-out": out / "held-out"})
