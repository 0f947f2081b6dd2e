"""`sidestep bench run`: a scenario into a run folder."""

from pathlib import Path

import click

from sidestep.cli._engine import engine_options, ray_workers
from sidestep.cli._output import (
    batch_option,
    json_option,
    keeping,
    prepare,
    print_json,
    print_paths,
    progress,
)
from sidestep.runs.units import Shard


def read_shard(ctx: click.Context, param: click.Parameter, value: str) -> Shard:
    """Read i/N."""
    try:
        return Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command("run")
@click.argument("name", metavar="SCENARIO")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Weights and data of the scenario, where it does not bring its own.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the run.  [default: out/bench/SCENARIO]",
)
@click.option("--seed", type=int, help="Seed of the run.  [default: the scenario's own]")
@batch_option
@click.option(
    "--shard",
    metavar="i/N",
    default="0/1",
    callback=read_shard,
    help="Make only every N-th work unit, from number i on.",
)
@engine_options
@json_option
def command(
    name: str,
    data: Path | None,
    out: Path | None,
    seed: int | None,
    batch: int,
    shard: Shard,
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run a scenario: the same prompts and seeds with every method, scored.

    A run that was stopped or killed goes on where it stood when it is started again, and ends with
    the same records. A folder that holds another run is refused. `sidestep bench compare` and
    `sidestep bench curves` show the result.
    """
    spread = ray_workers(engine, workers)
    from sidestep.bench.demo import showing
    from sidestep.bench.loading import load
    from sidestep.bench.materials import methods, open_scenario
    from sidestep.runs.run import fill
    from sidestep.runs.work import serial

    scenario = load(name)
    out = out or Path("out/bench") / scenario.name
    if spread is not None:
        from sidestep.runs.on_ray import on_ray

        make = on_ray(spread)
    else:
        make = serial
    every = [how for rows in methods(scenario).values() for how in rows]
    prepare(out)
    with keeping(out), progress() as report:
        material = open_scenario(scenario, data, report=report)
        records = fill(
            out,
            material.model,
            material.jobs,
            every,
            seed=scenario.sampling.seed if seed is None else seed,
            steps=scenario.sampling.steps,
            batch=batch,
            score=showing(material.score, material.training, out),
            report=report,
            header=material.header,
            engine=make,
            shard=shard,
        )
    wanted = len(material.jobs) * len(every)
    if as_json:
        print_json({"out": str(out), "records": len(records), "of": wanted})
        return
    if len(records) < wanted:
        click.echo(
            f"{len(records)} of {wanted} pictures are scored; the rest waits for the units of "
            "other shards. When all are in one folder, run once more there, without --shard"
        )
    else:
        click.echo(f"{wanted} pictures; `sidestep bench compare {out}` shows the methods")
    print_paths({"records": out / "records.jsonl"} if records else {"units": out / "units"})
