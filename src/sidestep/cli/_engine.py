"""Where work units are done: the options that commands share."""

from collections.abc import Callable
from typing import Any

import click

DEFAULT = 2  # workers of Ray


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--engine and --workers of a command; `ray_workers` reads them."""
    command = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Workers of the engine ray.  [default: {DEFAULT}]",
    )(command)
    return click.option(
        "--engine",
        type=click.Choice(["serial", "ray"]),
        default="serial",
        show_default=True,
        help="In this process, or on Ray: the cores or GPUs of this machine, or a cluster.",
    )(command)


def ray_workers(engine: str, workers: int | None) -> int | None:
    """How many workers Ray is asked for, None where it is not asked; UsageError for a misfit."""
    if workers is not None and engine != "ray":
        raise click.UsageError("--workers is of the engine ray; add --engine ray")
    return (workers or DEFAULT) if engine == "ray" else None
