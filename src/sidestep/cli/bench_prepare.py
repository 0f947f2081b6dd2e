"""`sidestep bench prepare`: what a scenario needs, what is there and what is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli._output import json_option, print_json, progress

if TYPE_CHECKING:
    from sidestep.bench.prepare import Item, Readiness

SHOWN = 5  # unreadable images named on the screen; JSON has all


@click.command("prepare")
@click.argument("scenario")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with the scenario's data; the embedded scenario needs none.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, scenario: str, data: Path | None, as_json: bool) -> None:
    """Say what a scenario needs, what is there and what is missing.

    SCENARIO is a name from `sidestep bench list` or the path of a scenario's TOML file. Every
    reference image is decoded once, so that the ones that cannot be read are known and counted.
    Nothing is fetched or copied. The exit code is 0 when the scenario can run and 1 when not.
    """
    from sidestep.bench.loading import load
    from sidestep.bench.prepare import prepare

    with progress() as report:
        answer = prepare(load(scenario), data, report)
    if as_json:
        print_json(answer.to_dict())
    else:
        show(answer)
    ctx.exit(0 if answer.ready else 1)


def show(answer: "Readiness") -> None:
    """The answer as text."""
    for item in answer.items:
        click.echo(_item(item))
    if answer.prompts is not None:
        forms = answer.prompts_by_form or {}
        known = {form: n for form, n in forms.items() if form != "unknown"}
        kinds = "".join(f", {n} {form}" for form, n in known.items())
        click.echo(
            f"prompts     {answer.prompts}{kinds}; "
            f"{answer.prompts_with_reference} with a readable image of their own"
        )
    if answer.references is not None:
        click.echo(f"references  {answer.references} readable, {len(answer.unreadable)} not")
        for one in answer.unreadable[:SHOWN]:
            click.echo(f"            {one.file}: {one.reason}")
        if len(answer.unreadable) > SHOWN:
            click.echo(f"            and {len(answer.unreadable) - SHOWN} more; --json has all")
    click.echo(f"{answer.scenario} is {'ready' if answer.ready else 'not ready'}")


def _item(item: "Item") -> str:
    facts = {"what": item.what, "found" if item.state == "ready" else "next": item.says}
    if item.state != "ready":
        facts |= {"from": item.origin, "licence": item.licence}
    head = f"{item.state:<8} {item.path or item.what}{' (optional)' if item.optional else ''}"
    return "\n".join([head, *(f"  {name:<9}{said}" for name, said in facts.items()), ""])
