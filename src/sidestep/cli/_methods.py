"""Rules, mitigations and recipes as people type them: `NAME`, `NAME:key=value,...`, or JSON."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sidestep import registry
from sidestep.errors import SidestepError

Read = Callable[[click.Context, click.Parameter, Any], Any]
Command = TypeVar("Command", bound=Callable[..., Any])


def one_of(*kinds: registry.Kind) -> Read:
    """A click callback that reads a method of those kinds as {"name": ..., settings}."""
    return lambda ctx, param, value: None if value is None else read(ctx, param, value, *kinds)


def several_of(*kinds: registry.Kind) -> Read:
    """A click callback that reads each of several methods of those kinds."""
    return lambda ctx, param, values: [read(ctx, param, value, *kinds) for value in values]


def recipe_option(default: str | None, **more: Any) -> Callable[[Command], Command]:
    """--recipe, which a command gets as {"name": ..., settings}."""
    return click.option(
        "--recipe",
        callback=one_of("similarity"),
        default=default,
        show_default=default is not None,
        metavar="NAME[:key=value,...]",
        **{"help": "How pictures are compared: see `sidestep methods --kind similarity`."} | more,
    )


def read(
    ctx: click.Context, param: click.Parameter, value: str, *kinds: registry.Kind
) -> dict[str, Any]:
    """A typed method; numbers become numbers. Raises BadParameter for a name nobody knows."""
    try:
        found = json.loads(value) if value.startswith("{") else _pairs(value)
        name = registry.get(str(found.pop("name", "")), *kinds).name
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{value!r} is no JSON ({error.msg})", ctx, param) from None
    except SidestepError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return {"name": name, **found}


def _pairs(value: str) -> dict[str, Any]:
    name, _, rest = value.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",")] if rest else []
    if any(not key or not equals for key, equals, _ in pairs):
        raise SidestepError(
            f"{value!r} has a setting without a value; write NAME:key=value,key=value"
        )
    return {"name": name, **{key: number(text) for key, _, text in pairs}}


def number(text: str) -> Any:
    """What a setting's text stands for: JSON where it is JSON, the text itself elsewhere."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
