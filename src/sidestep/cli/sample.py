"""`sidestep sample`: pictures from a model folder with one guidance rule."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep import registry
from sidestep.cli._methods import one_of, several_of
from sidestep.cli._model import Chosen, model_options
from sidestep.cli._output import (
    Column,
    batch_option,
    json_option,
    keeping,
    prepare,
    print_json,
    print_paths,
    print_table,
    progress,
    seed_option,
    warn,
)
from sidestep.errors import SidestepError

if TYPE_CHECKING:
    from sidestep.adapters.pipelined import Pipelined
    from sidestep.adapters.stable_diffusion import StableDiffusion
    from sidestep.runs.records import Record

ROWS_SHOWN = 40
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


@click.command("sample")
@model_options
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@click.option(
    "--rule",
    metavar="NAME[:key=value,...]",
    callback=one_of(*RULES),
    default="dynamic",
    show_default=True,
    help="constant, static, dynamic, interval or probe; see `sidestep methods`. Its settings may "
    "also be given by the options below.",
)
@click.option(
    "--before",
    type=float,
    metavar="SCALE",
    help="Scale before the transition: 0 unconditional, 1 conditional, negative opposite.",
)
@click.option(
    "--after",
    "--scale",
    "after",
    type=float,
    metavar="SCALE",
    help="Scale after the transition; for constant, of every step.",
)
@click.option(
    "--time",
    type=float,
    metavar="TIME",
    help="static: time of the transition, in [0, 1], 1 = noise.",
)
@click.option(
    "--start",
    type=float,
    metavar="TIME",
    help="interval: time at which guidance begins.",
)
@click.option(
    "--stop",
    type=float,
    metavar="TIME",
    help="interval: time at which guidance ends.",
)
@click.option(
    "--drop",
    type=float,
    metavar="SHARE",
    help="dynamic: how far below its highest the gap must fall, in [0, 1).",
)
@click.option(
    "--earliest",
    type=float,
    metavar="TIME",
    help="dynamic: guidance never comes on at a time above this.",
)
@click.option(
    "--latest",
    type=float,
    metavar="TIME",
    help="dynamic: a minimum at a time below this does not count.",
)
@click.option(
    "--fallback",
    callback=time_or_none,
    metavar="TIME|none",
    help="dynamic: time at which guidance comes on anyway.",
)
@click.option(
    "--mitigation",
    "mitigations",
    callback=several_of("mitigation"),
    multiple=True,
    metavar="NAME[:key=value,...]",
    help="Change the run beside its rule; may be given several times. See `sidestep methods`.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Steps from noise to picture.",
)
@click.option(
    "--finer",
    type=click.IntRange(min=1),
    metavar="N",
    help="After the transition, follow the grid with N steps.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Pictures per prompt, each from its own noise.",
)
@seed_option
@batch_option
@click.option(
    "--cut",
    is_flag=True,
    help="Accept prompts that are too long for the model: it reads their beginning.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the run.  [default: the first free of out/sample-1, -2, ...]",
)
@json_option
def command(
    model: Chosen,
    prompts: tuple[str, ...],
    rule: dict[str, Any],
    mitigations: list[dict[str, Any]],
    steps: int,
    finer: int | None,
    draws: int,
    seed: int,
    batch: int,
    cut: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Sample pictures from a model with a guidance rule.

    MODEL is the folder of a text-to-image pipeline of diffusers, the id of one on the Hugging Face
    Hub such as OWNER/NAME, or the word `embedded` for the small model that comes with Sidestep.
    PROMPT may be "", a picture without a prompt. Settings that are not given have the rule's
    defaults. Another family than Stable Diffusion 1 and 2 samples by its own scheduler, and takes
    rules but no mitigations.
    """
    check_prompts(prompts)
    from sidestep.runs.generate import method
    from sidestep.runs.run import run

    given = settings(rule["name"], options)
    how = method(**{**rule, **given}, mitigations=mitigations)
    out = out or _free(Path("out"))
    if (out / "records.jsonl").exists():
        raise SidestepError(
            f"{out} already holds the records of a run, which stay as they are; "
            "give another folder with --out"
        )
    loaded = model.load()
    notes = too_long(loaded, prompts, cut)
    if "" in prompts:
        notes.append(f"prompt {prompts.index('') + 1} is empty: a picture without a prompt")
    for note in notes:
        warn(note)
    prepare(out)
    with keeping(out), progress() as report:
        records = run(
            loaded,
            model.name,
            list(prompts),
            [how],
            out,
            seed=seed,
            draws=draws,
            steps=steps,
            batch=batch,
            finer=finer,
            report=report,
        )
    if as_json:
        from dataclasses import asdict

        print_json({"out": str(out), "notes": notes, "records": [asdict(r) for r in records]})
        return
    print_table(how.label, columns(records[:ROWS_SHOWN]))
    if len(records) > ROWS_SHOWN:
        click.echo(f"and {len(records) - ROWS_SHOWN} more in records.jsonl")
    print_paths({"pictures": out / "images", "records": out / "records.jsonl"})
    click.echo(f"`sidestep report {out}` writes the report")


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse a prompt of spaces alone, and one that comes twice."""
    for i, prompt in enumerate(prompts, start=1):
        if prompt and not prompt.strip():
            raise SidestepError(
                f"prompt {i} is nothing but spaces; write what the picture should show, "
                'or "" for a picture without a prompt'
            )
        if prompt in prompts[: i - 1]:
            raise SidestepError(
                f"prompt {i} is the same as prompt {prompts.index(prompt) + 1} and would give the "
                "same picture; ask for more pictures of a prompt with --draws"
            )


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


def too_long(model: "StableDiffusion | Pipelined", prompts: Sequence[str], cut: bool) -> list[str]:
    """A note for each prompt that the model reads in part; without `cut` they are refused."""
    notes = []
    for i, prompt in enumerate(prompts, start=1):
        tokens = model.count_tokens(prompt)
        if tokens > model.max_tokens:
            notes.append(f"prompt {i} has {tokens} tokens and is cut at {model.max_tokens}")
    if notes and not cut:
        raise SidestepError(
            f"{'; '.join(notes)}, the most this model reads. "
            "Shorten it, or pass --cut to sample from its beginning"
        )
    return notes


def columns(records: "Sequence[Record]") -> list[Column]:
    """One row per picture."""
    return [
        Column("prompt", [_short(r.prompt) for r in records], right=False, wrap=True),
        Column("draw", [str(r.draw) for r in records], 1),
        Column("guided from", [_opened(r) for r in records]),
        Column("NFE", [str(r.nfe) for r in records], 2),
        Column("s", [f"{r.seconds:.2f}" for r in records], 3),
        Column("picture", [Path(r.image).name for r in records]),
    ]


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 32 else prompt[:29] + "..."


def _opened(record: "Record") -> str:
    if record.transition_time is None:
        return "never"
    return f"{record.transition_time:.2f} ({record.opened_by})"


def _free(parent: Path) -> Path:
    number = 1
    while (parent / f"sample-{number}").exists():
        number += 1
    return parent / f"sample-{number}"
