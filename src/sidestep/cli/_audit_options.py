"""The options of `sidestep audit`, and what they ask for."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._engine import engine_options
from sidestep.cli._methods import one_of, recipe_option, several_of
from sidestep.cli._output import batch_option, seed_option
from sidestep.cli._pictures import column_options

if TYPE_CHECKING:
    from sidestep.audit.request import Request

Command = Callable[..., Any]
# Where a value says a place on this machine, the report has its last part only.
PLACES = ("images", "controls", "prompts", "ordinary", "lora", "clip")
# Of the whole, what `Request` calls them.
NUMBERS = ("captions", "draws", "seed", "steps", "batch", "rate", "level", "duplicate", "tiles")
# No part of what is asked: where files go, and how they are made.
BESIDE = ("out", "as_json", "fail_on", "engine", "workers", "batch", "device")
SETTING = ("rule", "mitigations")  # the evidence spells them out
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def _path(name: str, help: str) -> Callable[[Command], Command]:
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help)


def _text(name: str, help: str, metavar: str = "TEXT") -> Callable[[Command], Command]:
    return click.option(name, metavar=metavar, help=help)


def _count(name: str, default: int, help: str, least: int = 1) -> Callable[[Command], Command]:
    return click.option(
        name, type=click.IntRange(min=least), default=default, show_default=True, help=help
    )


OPTIONS = (
    _text("--images", "Training pictures, as `sidestep index` takes them.", "SOURCE"),
    column_options,
    _text(
        "--controls",
        "Never-trained pictures, to calibrate with.  [default, with --lora: the base model's]",
        "SOURCE",
    ),
    recipe_option("sscd"),
    click.option(
        "--side",
        type=click.IntRange(8, 2048),
        help="Pixels of the square that pictures are compared at.  [default: the model's own]",
    ),
    _path("--prompts", "Prompts instead of the captions: .txt, .jsonl or .csv."),
    _path("--ordinary", "Ordinary prompts.  [default: some that come with Sidestep]"),
    _text("--clip", "Folder or Hub id of a CLIP, to measure agreement with prompts."),
    click.option(
        "--rule",
        callback=one_of("rule", "sampler"),
        default="constant",
        show_default=True,
        metavar="NAME[:key=value,...]",
        help="The guidance that the model is used with.",
    ),
    click.option(
        "--mitigation",
        "mitigations",
        callback=several_of("mitigation"),
        multiple=True,
        metavar="NAME[:key=value,...]",
        help="A mitigation that it is used with; may be given several times.",
    ),
    click.option(
        "--try",
        "tries",
        multiple=True,
        default=("all",),
        show_default=True,
        metavar="NAME",
        help="What to try on findings: a rule or mitigation, all, or none.",
    ),
    _count("--captions", 200, "Captions sampled at most, the most duplicated first."),
    _count("--draws", 4, "Pictures of each caption."),
    click.option(
        "--steps", type=click.IntRange(min=1), help="Sampling steps.  [default: 50, demo 25]"
    ),
    click.option(
        "--rate",
        type=SHARE,
        help="Share of never-trained pictures that may be taken for copies.  "
        "[default: 0.01, demo 0.001]",
    ),
    click.option(
        "--level",
        type=SHARE,
        default=0.05,
        show_default=True,
        help="Share of copies that is accepted.",
    ),
    click.option(
        "--duplicate",
        type=click.FloatRange(0, 1, min_open=True),
        help="Similarity of near-duplicates in the training set.  [default: the threshold]",
    ),
    click.option(
        "--tiles",
        type=click.IntRange(2, 15),
        help="Look for parts of pictures too, in so many windows a side.",
    ),
    seed_option,
    batch_option,
    engine_options,
    _text("--question", "What the audit is to answer; printed in the report."),
    _text("--context", "How the model is released: internal, behind an API, open weights."),
    _text("--auditor", "Who audits; printed in the report."),
)


def audit_options(command: Command) -> Command:
    """Give a command all of them, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def request(demo_of: bool, options: dict[str, Any]) -> "Request":
    """How much of everything, and what for."""
    from sidestep.audit.request import Request

    given = {name: options[name] for name in NUMBERS if options[name] is not None}
    said = {n: options[n] for n in ("question", "context", "auditor") if options[n] is not None}
    if demo_of:
        from sidestep.audit import demo

        given = {"steps": demo.STEPS, "rate": demo.RATE} | given
    return Request(**given, **said, tries=tuple(options["tries"]))


def typed(ctx: click.Context, model: str) -> str:
    """The command as it was typed but for the setting; of a path the last part is kept."""
    from sidestep.audit.spelling import spelled

    parts = ["sidestep", "audit", Path(model).name]
    given = [p for p in ctx.command.params if isinstance(p, click.Option) and _typed(ctx, p)]
    given = [p for p in given if p.name not in (*BESIDE, *SETTING)]
    for param in given:
        for value in _values(ctx, param):
            if isinstance(value, dict):  # a recipe, maybe with a file of weights
                value = spelled(value | {k: _last(v) for k, v in value.items() if k == "path"})
            place = param.name in PLACES
            parts += [param.opts[0], *([] if value is True else [_last(value) if place else value])]
    return shlex.join(map(str, parts))


def _typed(ctx: click.Context, param: click.Option) -> bool:
    return ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE


def _values(ctx: click.Context, param: click.Option) -> list[Any]:
    value = ctx.params[str(param.name)]
    return list(value) if param.multiple else [value]


def _last(value: Any) -> str:
    return Path(str(value)).name
