"""What the commands share: tables on stdout, progress on stderr, output folders."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sidestep.cli.main import Stopped
from sidestep.errors import SidestepError
from sidestep.runs.units import SIZE

BETWEEN = 2  # blanks between two columns: a cell's padding and the table style's own
Report = Callable[[str, int, int], None]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
batch_option = click.option(
    "--batch",
    type=click.IntRange(1, SIZE),
    default=16,
    show_default=True,
    help="Pictures made at once: a matter of speed and memory, not of what is drawn.",
)
seed_option = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the run; each picture's own seed follows from it, its prompt and its draw.",
)


class Column(NamedTuple):
    """A table column: its heading, its cells, and its place when room is short (0 stays)."""

    heading: str
    cells: Sequence[str]
    place: int = 0
    right: bool = True
    wrap: bool = False  # break long cells into lines


def print_json(value: Any) -> None:
    """A result for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[Column]) -> list[str]:
    """Print a table; returns the headings of columns that were left out for want of room."""
    console = Console()
    shown, left = fit(columns, console.width)
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in shown:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wrap,
        )
    for cells in zip(*(c.cells for c in shown), strict=True):
        # Text, because rich would read a prompt in brackets as markup.
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    console.print()
    return left


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit a width and the headings of the others; the highest place goes first."""
    shown = list(columns)
    while sum(_width(c) for c in shown) + BETWEEN * (len(shown) - 1) > width:
        worst = max(shown, key=lambda c: c.place)
        if worst.place == 0:
            break
        shown.remove(worst)
    return shown, [c.heading.replace("\n", " ") for c in columns if c not in shown]


def _width(column: Column) -> int:
    return max(len(line) for text in [column.heading, *column.cells] for line in text.split("\n"))


def print_paths(paths: dict[str, Path]) -> None:
    """The files a command left, one a line."""
    for name, path in paths.items():
        click.echo(f"{name:<9} {path}")


@contextmanager
def progress() -> Iterator[Report]:
    """A callback `(task, done, total)` that draws bars with the time left on stderr.

    Without a terminal it writes a line at each quarter of a task instead.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def report(task: str, done: int, total: int) -> None:
        if task not in tasks:
            tasks[task] = bars.add_task(task, total=total)
        bars.update(tasks[task], completed=done, total=total)

    with bars:
        yield report


def _lines() -> Report:
    quarters: dict[str, int] = {}
    starts: dict[str, tuple[float, int]] = {}

    def report(task: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, before = starts.setdefault(task, (now, done))
        quarter = 4 * done // total if total else 4
        if quarters.get(task) == quarter:
            return
        quarters[task] = quarter
        left = ""
        if done > before and done < total:
            left = f", about {(now - start) / (done - before) * (total - done):.0f} s left"
        click.echo(f"{task}: {done} of {total}{left}", err=True)

    return report


def prepare(out: Path) -> None:
    """Make the output folder, or say why it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SidestepError(
            f"{out} is a file, and the output needs a folder; give another path with --out"
        ) from error
    except NotADirectoryError as error:
        raise SidestepError(
            f"{out} lies below a file, and the output needs a folder; give another path with --out"
        ) from error
    except OSError as error:
        raise SidestepError(
            f"the output folder {out} cannot be made ({(error.strerror or str(error)).lower()}); "
            "give another path with --out"
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise SidestepError(
            f"the output folder {out} may not be written to; give another path with --out"
        )


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Tell what is kept in `out` when the work inside is stopped or the disk refuses."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Stopped(kept(out)) from error
    except OSError as error:
        error.add_note(kept(out))
        raise


def kept(out: Path) -> str:
    """What an output folder holds, as a sentence."""
    file = out / "records.jsonl"
    records = 0
    if file.is_file():
        with file.open("rb") as lines:
            records = sum(line.endswith(b"\n") for line in lines)
    images = sum(1 for _ in (out / "images").rglob("*.png"))
    if not records and not images:
        return f"Nothing is kept: {out} holds no record and no picture yet."
    return f"Kept in {out}: {records} records (records.jsonl) and {images} pictures (images/)."


def warn(text: str) -> None:
    """A sentence on stderr that does not end the command."""
    click.echo(f"Note: {text}", err=True)
    sys.stderr.flush()
