"""`sidestep bench run` over a scenario that is replaced by a stand-in of next to no cost."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
from reference import toy_run

from sidestep.cli.main import cli
from sidestep.runs.records import read
from sidestep.runs.run import OtherRun


@pytest.fixture(autouse=True)
def scenario(monkeypatch):
    """Stand in for scenario and materials; the folder of data it was opened with."""
    opened = []

    def open_scenario(scenario, data, report):
        opened.append(data)
        header = {"model": {"name": "toy"}, "scenario": {"name": scenario.name, "version": 3}}
        return SimpleNamespace(
            model=toy_run.Toy(),
            jobs=toy_run.JOBS,
            score=toy_run.score,
            header=header,
            training={},
        )

    sampling = SimpleNamespace(seed=0, steps=50)
    module = ModuleType("sidestep.bench.loading")
    module.load = lambda name: SimpleNamespace(name=name, sampling=sampling)
    materials = ModuleType("sidestep.bench.materials")
    materials.methods = lambda scenario: {"toy": toy_run.METHODS[:2]}
    materials.open_scenario = open_scenario
    monkeypatch.setitem(sys.modules, "sidestep.bench.loading", module)
    monkeypatch.setitem(sys.modules, "sidestep.bench.materials", materials)
    return opened


def run(*arguments):
    return cli.main(["bench", "run", *map(str, arguments)], standalone_mode=False, obj={})


def test_a_scenario_ends_in_a_run_folder(tmp_path, monkeypatch, capsys, scenario):
    monkeypatch.chdir(tmp_path)
    run("toy", "--data", "there")
    out = Path("out/bench/toy")
    assert scenario == [Path("there")]
    assert len(read(out / "records.jsonl")) == 144
    header = json.loads((out / "run.json").read_text())
    assert header["scenario"] == {"name": "toy", "version": 3}
    shown = capsys.readouterr()
    assert f"144 pictures; `sidestep bench compare {out}`" in shown.out
    assert "plain: 72 of 72" in shown.err
    with pytest.raises(OtherRun, match="seed 0 there, 5 here"):
        run("toy", "--seed", 5)


def test_shards_say_what_is_missing_until_all_are_there(tmp_path, capsys):
    run("toy", "--out", tmp_path, "--shard", "1/2")
    assert "0 of 144 pictures are scored" in capsys.readouterr().out
    run("toy", "--out", tmp_path, "--shard", "0/2", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "out": str(tmp_path), "records": 144, "of": 144,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shard", "2/2"], "write i/N with i from 0 to N - 1"),
        (["--workers", "2"], "--workers is of the engine ray"),
        (["--batch", "33"], "1<=x<=32"),
    ],
)
def test_wrong_options_are_a_sentence(arguments, words, tmp_path):
    with pytest.raises(click.UsageError) as caught:
        run("toy", "--out", tmp_path / "run", *arguments)
    assert words in caught.value.format_message()
    assert not (tmp_path / "run").exists()
