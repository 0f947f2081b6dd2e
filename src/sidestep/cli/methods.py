"""`sidestep methods`: everything the registry knows, and the settings of a method."""

import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args

import click

from sidestep import registry
from sidestep.cli._output import Column, json_option, print_json, print_table

# What is typed as NAME:key=value.
SETTABLE = ("rule", "schedule", "sampler", "mitigation", "similarity")
REQUIRED = "to be given"


@click.command("methods")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--kind", type=click.Choice(get_args(registry.Kind)), help="Only this kind.")
@json_option
def command(names: tuple[str, ...], kind: registry.Kind | None, as_json: bool) -> None:
    """List the methods by kind, with a line and a source each.

    With a NAME its settings and their defaults, as --rule, --mitigation and --recipe take them:
    NAME:key=value,key=value.
    """
    kinds = get_args(registry.Kind) if kind is None else (kind,)
    if names:
        show([registry.get(name, *kinds) for name in names], as_json)
        return
    if as_json:
        print_json([_facts(e) for e in registry.entries(*kinds)])
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


def show(entries: list[registry.Entry], as_json: bool) -> None:
    """Methods with their settings."""
    known = {e.name: settings(e) for e in entries}
    if as_json:
        print_json([_facts(e) | {"settings": known[e.name]} for e in entries])
        return
    for entry in entries:
        click.echo(f"{entry.name} ({entry.kind}): {entry.summary}; {entry.source}")
        given = known[entry.name]
        if not given:
            click.echo("no settings\n")
            continue
        print_table(
            f"settings of {entry.name}",
            [
                Column("setting", list(given), right=False),
                Column("type", [one["type"] for one in given.values()], right=False, wrap=True),
                Column("default", [one["default"] for one in given.values()], right=False),
            ],
        )


def settings(entry: registry.Entry) -> dict[str, dict[str, str]]:
    """The settings of a method that can be typed, with type and default; none for other kinds."""
    if entry.kind not in SETTABLE:
        return {}
    if entry.kind == "sampler":
        from sidestep.runs.generate import method

        made = method(entry.name).settings
        return {k: {"type": type(v).__name__, "default": str(v)} for k, v in made.items()}
    kind = entry.load()
    # A default that is made anew for each object stands in its field only.
    every = fields(kind) if is_dataclass(kind) else ()
    made = {f.name: str(f.default_factory()) for f in every if f.default_factory is not MISSING}
    return {
        p.name: {"type": _type(p.annotation), "default": made.get(p.name, _default(p))}
        for p in inspect.signature(kind).parameters.values()
    }


def _facts(entry: registry.Entry) -> dict[str, Any]:
    return {k: getattr(entry, k) for k in ("name", "kind", "summary", "source")}


def _type(annotation: Any) -> str:
    named = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"(\w+\.)+(?=\w)", "", named)


def _default(parameter: inspect.Parameter) -> str:
    return REQUIRED if parameter.default is parameter.empty else str(parameter.default)
