"""Side by side in one run, printed as ratios: `make bench`.

Evaluations and time of each rule against plain guidance, the rule's own arithmetic against the
bare formula, batches against the released scripts' way of one image at a time, and what the rules
cost inside diffusers pipelines. Search in an index comes last, and takes the longest.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from benchmarks import searching
from benchmarks.pipelines import pipelines
from rich.console import Console
from rich.table import Table

from sidestep.adapters.stable_diffusion import load
from sidestep.guidance.base import Prediction
from sidestep.guidance.dynamic import Dynamic
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.runs.generate import Job, make, method

ROUNDS = 3


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rules(model: Any) -> Table:
    """Evaluations and time relative to plain guidance, the rounds interleaved."""
    jobs = [Job(t.caption, 0) for t in pictures.targets()[:8]]
    methods = [
        method("constant", "plain"),
        method("static", "static 0.5, before 0", time=0.5, before=0.0),
        method("static", "static 0.5, before 1", time=0.5, before=1.0),
        method("static", "static 0.7, before -2", time=0.7, before=-2.0),
        method("dynamic", "dynamic, before 0", before=0.0),
        method("probe", "probe, before -7.5 (two runs)"),
    ]
    make(model, jobs, methods[0])  # warm up
    times: dict[str, list[float]] = {m.label: [] for m in methods}
    nfe = {}
    for _ in range(ROUNDS):
        for how in methods:
            start = time.perf_counter()
            made = make(model, jobs, how)
            times[how.label].append(time.perf_counter() - start)
            nfe[how.label] = float(made.trace.nfe.double().mean())
    table = Table("rule", "NFE", "NFE / plain", "time / plain", title="Each rule, 8 images")
    for how in methods:
        ratio = median(a / b for a, b in zip(times[how.label], times["plain"], strict=True))
        share = nfe[how.label] / nfe["plain"]
        table.add_row(how.label, f"{nfe[how.label]:.1f}", f"{share:.2f}", f"{ratio:.2f}")
    return table


def arithmetic(model: Any) -> Table:
    """The dynamic rule's own work per step, in percent of a step of the network."""
    batch = 8
    x = torch.randn(batch, *model.latent_shape)
    hidden = model.embed(["a fox"] * batch).cond
    level = model.schedule.grid(50)[10]
    network, whole, bare = [], [], []
    rule = Dynamic()
    for _ in range(50):
        with torch.no_grad():
            network.append(
                seconds(
                    lambda: model.pipe.unet(
                        torch.cat([x, x]), level.timestep, torch.cat([hidden, hidden])
                    )
                )
            )
        state = rule.init(batch)
        whole.append(seconds(lambda s=state: rule.step(Prediction(x, x + 1, level.time), s)))  # type: ignore[misc]
        bare.append(seconds(lambda: x + 7.5 * ((x + 1) - x)))
    extra = (median(whole) - median(bare)) / median(network)
    table = Table("what", "share of a network step", title="The dynamic rule's own arithmetic")
    table.add_row("dynamic rule minus the bare formula", f"{100 * extra:.1f} %")
    return table


def batches(model: Any) -> Table:
    """Batches of 16 against one image at a time, same pictures count."""
    jobs = [Job(t.caption, 0) for t in pictures.targets()[:16]]
    how = method("dynamic", before=-2.0)
    probe = method("probe")
    one = median(seconds(lambda: make(model, jobs, how, batch=1)) for _ in range(ROUNDS))
    many = median(seconds(lambda: make(model, jobs, how, batch=16)) for _ in range(ROUNDS))
    released = seconds(lambda: make(model, jobs, probe, batch=1, finer=200))
    table = Table("way", "time / batch of 16", title="16 images with opposite guidance")
    table.add_row("dynamic, batch of 16", "1.00")
    table.add_row("dynamic, one image at a time", f"{one / many:.2f}")
    table.add_row("released way: one at a time, probe, 200 steps after", f"{released / many:.2f}")
    return table


def startup() -> Table:
    """Import and help, whole processes, against an empty interpreter."""
    commands = {
        "python -c pass": ["-c", "pass"],
        "import sidestep": ["-c", "import sidestep"],
        "sidestep --help": ["-c", "from sidestep.cli.main import main; main()", "--help"],
    }
    times = {
        name: median(
            seconds(lambda a=args: subprocess.run([sys.executable, *a], capture_output=True))  # type: ignore[misc]
            for _ in range(5)
        )
        for name, args in commands.items()
    }
    table = Table("command", "seconds", "/ empty", title="Start-up, whole process")
    for name, value in times.items():
        table.add_row(name, f"{value:.2f}", f"{value / times['python -c pass']:.1f}")
    return table


def main() -> None:
    """Run all and print."""
    console, model = Console(), load(embedded.folder())
    console.print(startup(), arithmetic(model), rules(model), batches(model), pipelines())
    searching.main()


if __name__ == "__main__":
    main()
