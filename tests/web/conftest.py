"""A small run folder: 3 rules x 4 prompts x 2 draws of random pictures, gaps and scores."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sidestep.runs.records import Record, append
from sidestep.sampling.trace import Trace

RULES = {"plain": "constant", "static": "static", "dynamic, opposite": "dynamic"}
PROMPTS = ["a red fox", "an owl in a jazz club", "a penguin", "a drawing of a cat"]
STEPS = 20
Edit = Callable[[Record], Record]


def slug(rule: str) -> str:
    return rule.replace(", ", "-")


def record(rule: str, prompt: str, draw: int, index: int, r: np.random.Generator) -> Record:
    method = RULES[rule]
    step = {"constant": 0, "static": 8, "dynamic": int(r.integers(6, 14))}[method]
    opened = {"constant": "start", "static": "time"}.get(method, ["signal", "fallback"][index % 2])
    copy = prompt != PROMPTS[3] and {"plain": index != 0, "static": index == 2}.get(rule, False)
    return Record(
        rule=rule, method=method, settings={"after": 7.5}, before=None,
        kind="ordinary" if prompt == PROMPTS[3] else "target", prompt=prompt, seed=index, draw=draw,
        image=f"images/{slug(rule)}/{index:04d}.png", transition=step,
        transition_time=1 - step / STEPS, opened_by=opened, nfe=2 * STEPS, seconds=0.25,
        nearest="target/00", nearest_image="images/training/target-00.png",
        similarity={"pixels": 0.9 if copy else 0.3}, recipe="pixels", threshold=0.6, copy=copy,
        agreement=1 + index % 7, spread=0.5,
    )  # fmt: skip


class Folder:
    """A run folder that tests may damage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.r = np.random.default_rng(7)
        self.records: list[Record] = []

    def fill(self, prompts: list[str], edit: Edit | None = None) -> "Folder":
        self.picture("images/training/target-00.png")
        for rule in RULES:
            rows = [
                record(rule, prompt, draw, 2 * i + draw, self.r)
                for i, prompt in enumerate(prompts)
                for draw in range(2)
            ]
            rows = [edit(row) for row in rows] if edit else rows
            for row in rows:
                self.picture(row.image)
            append(self.path / "records.jsonl", rows)
            self.trace(rule, rows)
            self.records += rows
        self.header(
            created="2026-02-03T04:05:06+00:00", command="sidestep demo", seed=3, steps=STEPS,
            scale=7.5, versions={"torch": "2.13.0"}, model={"name": "embedded"},
            calibration=[{"recipe": "pixels", "threshold": 0.6, "rate": 0.01, "controls": 400}],
            rules=[{"rule": rule, "trace": f"traces/{slug(rule)}.safetensors"} for rule in RULES],
            references={
                "target/00": {"image": "images/training/target-00.png", "caption": prompts[0]}
            },
            agreement_ceiling={"r1": 0.7, "r5": 0.9},
            notes=["Pixel correlation decides."],
        )  # fmt: skip
        return self

    def header(self, **values: Any) -> None:
        (self.path / "run.json").write_text(json.dumps(values))

    def picture(self, name: str, side: int = 64) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = self.r.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.path / name)

    def trace(self, rule: str, rows: list[Record]) -> None:
        gap = torch.from_numpy(self.r.uniform(1, 9, (STEPS, len(rows)))).float()
        if rule == "static":
            gap[:8] = torch.nan
        made = Trace(
            time=torch.linspace(1, 0.05, STEPS, dtype=torch.float64),
            gap=gap,
            scale=torch.full_like(gap, 7.5),
            transition=torch.tensor([-1 if r.transition is None else r.transition for r in rows]),
            fell_back=torch.tensor([r.opened_by == "fallback" for r in rows]),
            nfe=torch.full((len(rows),), 2 * STEPS),
            plain=torch.full((len(rows),), 2 * STEPS),
        )
        (self.path / "traces").mkdir(exist_ok=True)
        made.save(self.path / f"traces/{slug(rule)}.safetensors")


def without_scores(row: Record) -> Record:
    """What `sidestep sample` leaves."""
    return replace(
        row, kind="other", nearest=None, nearest_image=None, similarity={}, recipe=None,
        threshold=None, copy=None, agreement=None, spread=None,
    )  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Folder:
    path = tmp_path / "run"
    path.mkdir()
    return Folder(path)


@pytest.fixture
def folder(empty: Folder) -> Folder:
    return empty.fill(PROMPTS)


@pytest.fixture
def unscored(empty: Folder) -> Folder:
    folder = empty.fill(PROMPTS, without_scores)
    folder.header(command="sidestep sample", steps=STEPS)
    return folder
