"""`sidestep sample`: pictures from a model folder with one guidance rule."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidestep.cli._methods import several_of
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
from sidestep.cli._rule import rule_options
from sidestep.errors import SidestepError

if TYPE_CHECKING:
    from sidestep.adapters.pipelined import Pipelined
    from sidestep.adapters.stable_diffusion import StableDiffusion
    from sidestep.runs.records import Record

ROWS_SHOWN = 40


@click.command("sample")
@model_options
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@rule_options
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

    how = method(**rule, mitigations=mitigations)
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
