"""Where work units are done: the options that commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sidestep.audit.embedding import Engine
    from sidestep.audit.engines import Engines

DEFAULT = 2  # workers of Ray


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--engine and --workers of a command; `ray_workers` reads them."""
    command = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Workers of the engine ray.  [default: {DEFAULT}]",
    )(command)
    return engine_option(command)


def engine_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--engine alone, for a command whose --workers are of either engine."""
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


def embed_engine(engine: str, workers: int | None) -> "Engine":
    """Where training pictures are embedded; `workers` decode them or, on Ray, do all of it."""
    if engine == "ray":
        from sidestep.audit.embedding_on_ray import on_ray

        return on_ray(workers or DEFAULT)
    from sidestep.audit.embedding import here

    return here(workers)


def audit_engines(engine: str, workers: int | None) -> "Engines":
    """Where an audit makes, embeds and searches; UsageError for a misfit."""
    from sidestep.audit.engines import Engines, on_ray

    spread = ray_workers(engine, workers)
    return Engines() if spread is None else on_ray(spread)
