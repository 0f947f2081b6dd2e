"""The rule of a run, and its settings as options of their own."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from sidestep import registry
from sidestep.cli._methods import one_of
from sidestep.errors import SidestepError

RULES: tuple[registry.Kind, ...] = ("rule", "sampler")


def time_or_none(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | str | None:
    """Read a time or "none"; the word stays a word, since None means that the option is absent."""
    if value in (None, "none"):
        return value
    try:
        return float(str(value))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a time in [0, 1] nor the word none", ctx, param
        ) from None


def rule_names() -> list[str]:
    """What `--rule` takes."""
    return [e.name for e in registry.entries(*RULES)]


OPTIONS = (
    click.option(
        "--rule",
        metavar="NAME[:key=value,...]",
        callback=one_of(*RULES),
        default="dynamic",
        show_default=True,
        help="constant, static, dynamic, interval or probe; see `sidestep methods`. Its settings "
        "may also be given by the options below.",
    ),
    click.option(
        "--before",
        type=float,
        metavar="SCALE",
        help="Scale before the transition: 0 unconditional, 1 conditional, negative opposite.",
    ),
    click.option(
        "--after",
        "--scale",
        "after",
        type=float,
        metavar="SCALE",
        help="Scale after the transition; for constant, of every step.",
    ),
    click.option(
        "--time",
        type=float,
        metavar="TIME",
        help="static: time of the transition, in [0, 1], 1 = noise.",
    ),
    click.option(
        "--start",
        type=float,
        metavar="TIME",
        help="interval: time at which guidance begins.",
    ),
    click.option(
        "--stop",
        type=float,
        metavar="TIME",
        help="interval: time at which guidance ends.",
    ),
    click.option(
        "--drop",
        type=float,
        metavar="SHARE",
        help="dynamic: how far below its highest the gap must fall, in [0, 1).",
    ),
    click.option(
        "--earliest",
        type=float,
        metavar="TIME",
        help="dynamic: guidance never comes on at a time above this.",
    ),
    click.option(
        "--latest",
        type=float,
        metavar="TIME",
        help="dynamic: a minimum at a time below this does not count.",
    ),
    click.option(
        "--fallback",
        callback=time_or_none,
        metavar="TIME|none",
        help="dynamic: time at which guidance comes on anyway.",
    ),
)
SETTINGS = ("before", "after", "time", "start", "stop", "drop", "earliest", "latest", "fallback")


def rule_options(command: Callable[..., None]) -> Callable[..., None]:
    """--rule and its settings, which a command gets as one dictionary: `rule`."""

    @wraps(command)
    def given(rule: dict[str, Any], **more: Any) -> None:
        options = {name: more.pop(name) for name in SETTINGS}
        command(rule={**rule, **settings(rule["name"], options)}, **more)

    for option in reversed(OPTIONS):
        given = option(given)
    return given


def settings(rule: str, options: dict[str, Any]) -> dict[str, Any]:
    """The given options as settings of the rule; an option it does not have is refused."""
    given = {name: value for name, value in options.items() if value is not None}
    entry = registry.get(rule, *RULES)
    has = set(inspect.signature(entry.load()).parameters)
    # Plain guidance has one scale, which is never "after" anything; the option is the same.
    names = {name: name for name in options} | ({"after": "scale"} if "scale" in has else {})
    wrong = [f"--{name}" for name in given if names[name] not in has]
    if wrong:
        known = [f"--{names[name]}" for name in options if names[name] in has]
        raise SidestepError(
            f"the rule {rule} has no {' and no '.join(wrong)}; it has {', '.join(known)}"
        )
    return {names[name]: None if value == "none" else value for name, value in given.items()}
