"""`sidestep bench curves`: run folders as charts and one page."""

from pathlib import Path

import click

from sidestep.cli._output import json_option, prepare, print_json, print_paths


@click.command("curves")
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to write them.  [default: the first run folder]",
)
@json_option
def command(folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Draw the methods of a run: copies and similarity against agreement, and cost.

    Writes one HTML page that opens without a network, and its charts as PNG pictures: the Pareto
    front, each method over its strengths with the area it covers, harm to ordinary prompts and
    cost. Only records are read, of one or several runs as `sidestep bench compare` takes them.
    """
    from sidestep.bench.compare import load
    from sidestep.web.comparison import write_comparison

    load(folders)  # refuse before a folder is made
    out = out or folders[0]
    prepare(out)
    paths = write_comparison(folders, out)
    if as_json:
        print_json({name: str(path) for name, path in paths.items()})
    else:
        print_paths(paths)
