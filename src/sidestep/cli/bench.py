"""`sidestep bench`: compare methods on scenarios."""

import click

from sidestep.cli.main import LazyGroup

COMMANDS = {
    "list": "List the scenarios that come with Sidestep.",
    "prepare": "Say what a scenario needs, what is there and what is missing.",
    "run": "Run a scenario: the same prompts and seeds with every method, scored.",
    "compare": "Compare the methods of a run, or of several runs of one scenario.",
    "curves": "Draw the methods of a run: copies and similarity against agreement, and cost.",
}


@click.group("bench", cls=LazyGroup, table=COMMANDS, prefix="bench_")
def command() -> None:
    """Compare methods on the paper's scenarios, or on one that needs no data."""
