"""Measure the embedded model against its quality bar and draw its gap curves for the model card.

Writes docs/images/gap.png and docs/model-measurements.json: plain guidance over eight seeds of
every target caption and over ordinary captions, and the gap along the plain, the unguided and the
opposite trajectory.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sidestep.adapters.stable_diffusion import StableDiffusion, load
from sidestep.bench.demo import embedded_scorer, jobs, recipes
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.runs.generate import Job, make, method
from sidestep.runs.run import records
from sidestep.runs.summary import summarise

ROOT = Path(__file__).parents[1]
SEED = 8  # not the demo's
TRAJECTORIES = {"plain, scale 7.5": 7.5, "unguided, scale 0": 0.0, "opposite, scale -2": -2.0}


def gaps(model: StableDiffusion, rows: list[Job], scale: float) -> dict[str, Any]:
    """The gap at every step of one trajectory, (T, B), and the share with a local minimum."""
    # A scale of exactly 0 would skip the conditional branch, and with it the gap.
    how = method("constant", f"gap at {scale}", scale=scale or 1e-12)
    trace = make(model, rows, how, seed=SEED, batch=32).trace
    time, gap = trace.time.numpy(), trace.gap.numpy()
    minima = (gap[1:-1] < gap[:-2]) & (gap[1:-1] < gap[2:])
    return {
        "time": time,
        "gap": gap,
        "with_minimum": float(minima.any(0).mean()),
        "with_minimum_before_half": float(minima[time[1:-1] >= 0.5].any(0).mean()),
    }


def draw_gaps(model: StableDiffusion, path: Path) -> dict[str, Any]:
    """The figure of the model card; the numbers behind it."""
    every = jobs(1, 30)
    kinds = {k: [j for j in every if j.kind == k] for k in ("target", "ordinary")}
    figure, shares = Figure(figsize=(11, 3.4), layout="constrained"), {}
    for axis, (name, scale) in zip(
        figure.subplots(1, 3, sharey=True), TRAJECTORIES.items(), strict=True
    ):
        for kind, style in (("target", "-"), ("ordinary", "--")):
            found = gaps(model, kinds[kind], scale)
            low, median, high = np.percentile(found["gap"], [10, 50, 90], axis=1)
            axis.plot(found["time"], median, style, label=f"{kind} captions")
            axis.fill_between(found["time"], low, high, alpha=0.15)
            shares[f"{name}, {kind}"] = {
                k: round(found[k], 3) for k in ("with_minimum", "with_minimum_before_half")
            } | {"first_gap": round(float(np.median(found["gap"][0])), 3)}
        axis.set(title=name, xlabel="diffusion time (1 = noise)", xlim=(1, 0), yscale="log")
    figure.axes[0].set_ylabel("gap ||cond - uncond||")
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return shares


def main() -> None:
    """Measure and write."""
    torch.set_grad_enabled(False)
    folder = embedded.folder()
    model = load(folder)
    scorer, about = embedded_scorer(8, recipes())
    every = jobs(8, 250)
    how = method("constant", "plain")
    made = make(model, every, how, seed=SEED, batch=32)
    rows = records(ROOT / "out/evaluate", every, how, made, SEED)
    rows = scorer(rows, made.images)
    right = {t.caption: f"target/{i:02d}" for i, t in enumerate(pictures.targets())}
    targets = [r for r in rows if r.kind == "target"]
    result = {
        "plain": summarise(rows)["plain"],
        "target_copies_of_the_right_picture": float(
            np.mean([bool(r.copy) and r.nearest == right[r.prompt] for r in targets])
        ),
        **about,
        "gap": draw_gaps(model, ROOT / "docs/images/gap.png"),
    }
    (ROOT / "docs/model-measurements.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
