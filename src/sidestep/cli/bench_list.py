"""`sidestep bench list`: the scenarios of the package."""

import click

from sidestep.cli._output import Column, json_option, print_json, print_table


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """List the scenarios that come with Sidestep."""
    from sidestep.bench.loading import load, names

    every = [load(name) for name in names()]
    if as_json:
        print_json(
            [
                {
                    "name": s.name,
                    "version": s.version,
                    "title": s.title,
                    "source": s.source,
                    "methods": [m.label for m in s.methods],
                    "needs": [need.path for need in s.needs],
                }
                for s in every
            ]
        )
        return
    print_table(
        "Scenarios",
        [
            Column("name", [s.name for s in every], right=False),
            Column("what it is", [s.title for s in every], right=False, wrap=True),
            Column("methods", [str(len(s.methods)) for s in every]),
            Column("your data", ["yes" if s.needs else "none" for s in every], right=False),
        ],
    )
    click.echo("`sidestep bench prepare NAME --data DIR` says what a scenario needs")
