"""`sidestep index`: an index of training pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli._output import Column, json_option, prepare, print_json, print_table, progress
from sidestep.cli._pictures import Pictures, outside, picture_options
from sidestep.cli.main import Stopped

if TYPE_CHECKING:
    from sidestep.audit.build import Built


@click.command("index")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the index, outside SOURCE; one that is there is brought up to date.",
)
@picture_options
@click.option(
    "--tiles",
    type=click.IntRange(2, 64),
    metavar="N",
    help="Index N x N overlapping windows of each picture instead, to find local copies.",
)
@json_option
def command(pictures: Pictures, out: Path, tiles: int | None, as_json: bool) -> None:
    """Index training pictures, so that copies of them can be searched for.

    SOURCE is a folder of images, of .tar archives (webdataset) or of .parquet files, one such file,
    or OWNER/NAME:SPLIT of a data set on the Hub. Captions come from NAME.txt, metadata.jsonl or a
    column. Run again, only new and changed pictures are embedded and removed ones forgotten; a run
    that was stopped goes on. Pictures that cannot be read are recorded with the reason.

    With --tiles N each picture is indexed as N x N windows of 2 / (N + 1) of the side, every two
    neighbours half over each other; all counts are of tiles then.
    """
    from sidestep.audit.build import build_index
    from sidestep.similarity.structured import Structured
    from sidestep.sources.tiles import Tiles

    outside(out, pictures.source)
    collection, made = pictures.open()
    if tiles is not None:
        collection, made = Tiles(collection, tiles), Structured(made)
    prepare(out)
    try:
        with progress() as report:
            built = build_index(
                collection, out, made, side=pictures.side, batch=pictures.batch,
                engine=pictures.embed(), report=report,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        raise Stopped(f"What was embedded is kept in {out}; the same command goes on.") from error
    if as_json:
        print_json(built.to_dict() | {"recipe": made.name, "side": pictures.side, "tiles": tiles})
    else:
        show(built, made.name, "tiles" if tiles else "pictures", out)


def show(built: "Built", recipe: str, unit: str, out: Path) -> None:
    """The counts as text."""
    rows = {
        "images": built.images,
        "new or changed": built.new,
        "unchanged": built.unchanged,
        "with another caption": built.recaptioned,
        "removed": built.removed,
        "unreadable": sum(built.unreadable.values()),
    }
    reasons = {f"  {reason}": n for reason, n in built.unreadable.most_common()}
    cells = rows | reasons
    print_table(
        f"Index under {recipe}",
        [
            Column(unit, list(cells), right=False, wrap=True),
            Column("", [str(n) for n in cells.values()]),
        ],
    )
    click.echo(f"index     {out}")
