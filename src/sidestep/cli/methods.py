"""`sidestep methods`: everything the registry knows."""

from typing import get_args

import click

from sidestep import registry
from sidestep.cli._output import Column, json_option, print_json, print_table


@click.command("methods")
@click.option("--kind", type=click.Choice(get_args(registry.Kind)), help="Only this kind.")
@json_option
def command(kind: registry.Kind | None, as_json: bool) -> None:
    """List the methods by kind, with a line and a source each."""
    kinds = get_args(registry.Kind) if kind is None else (kind,)
    if as_json:
        print_json(
            [
                {"name": e.name, "kind": e.kind, "summary": e.summary, "source": e.source}
                for e in registry.entries(*kinds)
            ]
        )
        return
    for one in kinds:
        entries = registry.entries(one)
        if entries:
            print_table(
                one,
                [
                    Column("name", [e.name for e in entries], right=False),
                    Column("what it does", [e.summary for e in entries], right=False, wrap=True),
                    Column("source", [e.source for e in entries], right=False, wrap=True),
                ],
            )
