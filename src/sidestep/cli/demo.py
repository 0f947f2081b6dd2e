"""`sidestep demo`: run the demo and print its table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sidestep.cli._output import (
    Column,
    json_option,
    keeping,
    prepare,
    print_json,
    print_paths,
    print_table,
    progress,
    seed_option,
)

TITLES = {
    "target": "Target captions: their pictures were repeated in training",
    "ordinary": "Ordinary captions: nothing to copy",
    "other": "Other captions",
}
FILES = {
    "report": "report.html",
    "grid": "grid.png",
    "records": "records.jsonl",
    "summary": "summary.json",
}

Rows = Mapping[str, Mapping[str, Any]]


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the report, the grid, the records and the pictures.",
)
@seed_option
@click.option("--quick", is_flag=True, help="Fewer pictures: a first look, with wide intervals.")
@json_option
def command(out: Path, seed: int, quick: bool, as_json: bool) -> None:
    """Show a model that copies its training pictures, and guidance that stops it.

    The embedded model draws its memorized captions and ordinary ones from the same seeds with
    plain guidance and with each of the paper's rules. The pictures are compared with every
    training picture; a table says how many are copies and how many show what the caption says.

    A demo that was stopped goes on where it stood, and one that was finished is only shown again;
    delete its folder to start anew.
    """
    prepare(out)
    from sidestep.bench.demo import run_demo
    from sidestep.web.grid import write_grid
    from sidestep.web.report import write_report

    with keeping(out), progress() as report:
        summary = run_demo(out, seed=seed, quick=quick, report=report)
        write_grid(out, out / "grid.png")
        write_report(out)
    files = {name: out / file for name, file in FILES.items()}
    if as_json:
        print_json({**summary, "files": {name: str(path) for name, path in files.items()}})
        return
    left: list[str] = []
    rules: Mapping[str, Rows] = summary["rules"]
    for kind in dict.fromkeys(kind for rows in rules.values() for kind in rows):
        rows = {label: kinds[kind] for label, kinds in rules.items() if kind in kinds}
        left = print_table(TITLES.get(kind, kind), columns(rows))
    click.echo(
        "n pictures; copies, good and R@k in %, copies with their 95 % interval;\n"
        "opened by signal/fallback; NFE is network evaluations per picture"
    )
    if left:
        click.echo(f"no room here for {', '.join(left)}: see the report")
    click.echo()
    print_paths(files)


def columns(rows: Rows) -> list[Column]:
    """The demo's table from summary rows, `sidestep.runs.summary.Row` as dicts, by rule."""
    every = list(rows.values())
    return [
        Column("rule", list(rows), right=False, wrap=True),
        Column("n", [str(r["images"]) for r in every], 5),
        Column("copies", [_interval(r) for r in every]),
        Column("good", [f"{100 * r['good_share']:.0f}" for r in every]),
        Column("R@1", [f"{100 * r['agreement_r1']:.0f}" for r in every], 4),
        Column("R@5", [f"{100 * r['agreement_r5']:.0f}" for r in every], 1),
        Column(
            "similarity\nmean/p95",
            [f"{r['similarity_mean']:.2f}/{r['similarity_p95']:.2f}" for r in every],
            7,
        ),
        Column("diversity", [_or_dash(r["diversity"]) for r in every], 8),
        Column(
            "opened by", [f"{r['opened_by_signal']}/{r['opened_by_fallback']}" for r in every], 2
        ),
        Column("NFE", [f"{r['nfe']:.0f}" for r in every], 3),
        Column("s/image", [f"{r['seconds']:.2f}" for r in every], 6),
    ]


def _interval(row: Mapping[str, Any]) -> str:
    share, low, high = (100 * row[k] for k in ("copy_share", "copy_low", "copy_high"))
    return f"{share:.0f} [{low:.0f}, {high:.0f}]"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
