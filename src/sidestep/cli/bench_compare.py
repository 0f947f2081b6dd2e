"""`sidestep bench compare`: run folders as one table."""

from pathlib import Path

import click

from sidestep.cli._output import Column, json_option, print_json, print_table


@click.command("compare")
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print it; csv and json hold every number in full.",
)
@json_option
def command(folders: tuple[Path, ...], form: str, as_json: bool) -> None:
    """Compare the methods of a run, or of several runs of one scenario.

    Prints a line for each method and strength: copies with their interval, prompt agreement,
    diversity, harm to ordinary prompts and cost, and differences to plain guidance over the same
    seeds. What others published about a method stands beside it. Only records are read. Runs of
    another scenario, model or version are refused.
    """
    from sidestep.bench import tables
    from sidestep.bench.compare import CHANGED, compare, load
    from sidestep.bench.published import beside, of_header

    header, records = load(folders)
    lines, published = compare(records), of_header(header)
    if as_json or form == "json":
        print_json(tables.rows(lines, published))
    elif form == "csv":
        click.echo(tables.to_csv(lines, published), nl=False)
    elif form == "markdown":
        click.echo(tables.to_markdown(lines, published), nl=False)
    else:
        left = print_table(
            f"{len(lines)} methods and strengths",
            [
                Column(
                    c.heading.replace(" ", "\n", 1) if c.place else c.heading,
                    [c.cell(line) for line in lines],
                    c.place,
                    right=c.heading not in ("rule", "form"),
                    wrap=c.heading == "rule",
                )
                for c in tables.columns(lines)
            ],
        )
        click.echo(tables.legend(lines, CHANGED))
        if left:
            click.echo(f"no room here for {', '.join(left)}: see --format markdown")
        if published is not None:
            theirs = beside(lines, published)
            cells = zip(*tables.published_cells(theirs), strict=True)
            print_table(
                f"{published.table}, as published and here",
                [
                    Column(head, list(column), right=head in ("published", "here"))
                    for head, column in zip(tables.PUBLISHED, cells, strict=True)
                ],
            )
            for said in tables.published_notes(theirs):
                click.echo(said)
