"""`sidestep duplicates`: near-duplicates inside an index of training pictures."""

from pathlib import Path

import click

from sidestep.cli._output import Column, json_option, print_json, print_table, progress


@click.command("duplicates")
@click.argument("folder", metavar="INDEX", type=click.Path(path_type=Path))
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    required=True,
    help="From here on two pictures are near-duplicates; of the index's recipe.",
)
@json_option
def command(folder: Path, similarity: float, as_json: bool) -> None:
    """Count the near-duplicates inside an index of training pictures.

    INDEX is a folder that `sidestep index` wrote. Every pair is compared, so the time grows with
    the square of the pictures. JSON has the copies of each picture by id.
    """
    from sidestep.audit.index import open_index
    from sidestep.audit.near_duplicates import copies, levels

    index = open_index(folder)
    with progress() as report:
        count = copies(index, similarity, report)
    found = levels(count)
    if as_json:
        by_id = dict(zip(index.ids.tolist(), count.tolist(), strict=True))
        facts = {"recipe": index.settings.recipe, "index": index.hash, "similarity": similarity}
        print_json(facts | {"levels": found, "copies": by_id})
        return
    unit = "pictures" if index.settings.tiles is None else "tiles"
    print_table(
        f"Copies of {len(index.ids)} {unit} at {similarity:g} under {index.settings.recipe}",
        [
            Column("times in the set", list(found)),
            Column(unit, [str(n) for n in found.values()]),
        ],
    )
