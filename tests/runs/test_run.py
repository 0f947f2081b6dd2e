"""A run folder is replaced by a run that gets somewhere, and by no other."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sidestep.errors import SidestepError
from sidestep.guidance import Prediction
from sidestep.runs.generate import method
from sidestep.runs.records import read
from sidestep.runs.run import run
from sidestep.runs.work import opened_by
from sidestep.sampling import NoiseSchedule


class Toy:
    """A model whose noise prediction is its input, scaled."""

    schedule = NoiseSchedule.scaled_linear()
    latent_shape = (1, 4, 4)

    def denoiser(self, prompts):
        return self

    def select(self, rows):
        return self

    def __call__(self, x, level, needs):
        return Prediction(x * 0.5, x * 0.6, level.time)

    def decode(self, latents):
        return np.zeros((len(latents), 8, 8, 3), dtype=np.uint8)


def test_a_refused_run_leaves_the_one_before(tmp_path):
    first = run(Toy(), "toy", ["a", "b"], [method("constant")], tmp_path, draws=2, steps=4)
    assert read(tmp_path / "records.jsonl") == first
    header = json.loads((tmp_path / "run.json").read_text())
    assert header["model"] == {"name": "toy", "sampler": "DPM-Solver++ 2M"}
    assert (header["seed"], header["steps"]) == (0, 4)
    for wrong in ({"steps": 5000}, {"steps": 4, "finer": 2}, {"steps": 4, "batch": 0}):
        with pytest.raises((ValueError, SidestepError)):
            run(Toy(), "toy", ["c"], [method("constant")], tmp_path, **wrong)
    assert read(tmp_path / "records.jsonl") == first
    assert json.loads((tmp_path / "run.json").read_text()) == header


def test_a_run_that_gets_somewhere_replaces_the_one_before(tmp_path):
    run(Toy(), "toy", ["a"], [method("constant")], tmp_path, steps=4)
    second = run(Toy(), "toy", ["b"], [method("static"), method("constant")], tmp_path, steps=4)
    assert read(tmp_path / "records.jsonl") == second
    assert [r.method for r in second] == ["static", "constant"]


def test_finished_rules_stay_when_a_later_one_fails(tmp_path):
    class Dies(Toy):
        calls = 0

        def __call__(self, x, level, needs):
            Dies.calls += 1
            if Dies.calls > 4:
                raise OSError("no space left on device")
            return super().__call__(x, level, needs)

    with pytest.raises(OSError, match="no space"):
        run(Dies(), "toy", ["a"], [method("constant"), method("static")], tmp_path, steps=4)
    (kept,) = read(tmp_path / "records.jsonl")
    assert kept.method == "constant"
    assert (tmp_path / kept.image).is_file()


class Counts(Toy):
    """Counts the samples it is asked to denoise at the first step."""

    def __init__(self, dies_at=None):
        self.asked, self.dies_at = 0, dies_at

    def __call__(self, x, level, needs):
        self.asked += 1
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        return super().__call__(x, level, needs)


RULES = [method("constant"), method("static"), method("dynamic")]


def test_a_stopped_run_goes_on_and_ends_with_the_same_records(tmp_path):
    whole = run(Toy(), "toy", ["a", "b"], RULES, tmp_path / "whole", steps=4)
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        run(Counts(dies_at=7), "toy", ["a", "b"], RULES, part, steps=4)
    # A kill in the middle of a write leaves half a line.
    with (part / "records.jsonl").open("a") as file:
        file.write(json.dumps({"rule": RULES[1].label})[:9])
    model = Counts()
    run(model, "toy", ["a", "b"], RULES, part, steps=4, batch=1)
    assert model.asked == 2 * 2 * 4  # two rules, two images alone, four steps
    timeless = [
        [replace(r, seconds=0) for r in rows] for rows in (whole, read(part / "records.jsonl"))
    ]
    assert timeless[0] == timeless[1]
    again = Counts()
    run(again, "toy", ["a", "b"], RULES, part, steps=4)
    assert again.asked == 0


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"steps": 5}, {"prompts": ["a", "c"]}, {"draws": 2}, {"rules": RULES[:2]}],
)
def test_a_run_of_other_settings_is_not_continued(tmp_path, other):
    settings = {"prompts": ["a", "b"], "rules": RULES, "out": tmp_path, "steps": 4}
    run(Toy(), "toy", **settings)
    model = Counts()
    rows = run(model, "toy", **settings | other)
    assert model.asked == sum(4 + (other.get("steps") == 5) for _ in other.get("rules", RULES))
    assert read(tmp_path / "records.jsonl") == rows


@pytest.mark.parametrize("what", ["fingerprint", "resolution"])
def test_a_run_of_another_model_of_that_name_is_not_continued(tmp_path, what):
    """Other weights, another precision or weight of a LoRA, other sizes: the name is the same."""
    for value in ("one", "other"):
        model = Counts()
        setattr(model, what, value)
        run(model, "toy", ["a"], RULES[:1], tmp_path, steps=4)
        assert model.asked == 4


def test_the_rule_beneath_a_mitigation_says_what_turned_guidance_on():
    timed = method("random-words", rule={"name": "interval", "start": 0.8})
    assert opened_by(timed, 3, False) == "time"
    assert opened_by(method("random-words"), 0, False) == "start"
    assert opened_by(method("dynamic"), 3, False) == "signal"
