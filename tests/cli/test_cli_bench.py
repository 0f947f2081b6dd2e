"""`sidestep bench`: the scenarios, and what they need."""

import json

import click
import pytest
from bench import stand_ins
from cli.test_cli_main import loaded_after

from sidestep.bench.loading import names
from sidestep.bench.prepare import Readiness
from sidestep.cli import bench, bench_prepare
from sidestep.cli.main import main
from sidestep.sources.pictures import Unreadable


def test_list_has_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [s["name"] for s in shown] == names()
    assert shown[0]["needs"] == [] and "plain" in shown[0]["methods"]
    assert main(["bench", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in names())


def test_prepare_of_nothing_says_what_is_missing_and_exits_1(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "prepare", "s4", "--data", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "missing  stable-diffusion-v1-4\n" in shown
    assert f"  next     put it at {tmp_path / 'gt_images'}\n" in shown
    assert "missing  memorized_laion_prompts.csv (optional)\n" in shown
    assert "  licence  MIT\n" in shown
    assert shown.endswith("s4 is not ready\n")


def test_prepare_of_everything_exits_0(tmp_path, monkeypatch, capsys) -> None:
    stand_ins.s4(tmp_path)
    (tmp_path / "gt_images/222/0.png").write_bytes(b"")
    monkeypatch.setattr("sidestep.bench.loading.load", stand_ins.small)
    assert main(["bench", "prepare", "s4", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "prompts     3, 1 template, 1 verbatim; 1 with a readable image of their own\n" in shown
    assert "references  2 readable, 1 not\n" in shown
    assert "            222/0.png: no JPEG, PNG or WEBP image\n" in shown
    assert shown.endswith("s4 is ready\n")
    assert main(["bench", "prepare", "s4", "--data", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] and found["unreadable"] == [
        {"file": "222/0.png", "reason": "no JPEG, PNG or WEBP image"}
    ]


def test_many_unreadable_images_are_named_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    refused = tuple(Unreadable(f"{i}.png", "broken") for i in range(9))
    bench_prepare.show(Readiness("s4", 1, ".", (), references=1, unreadable=refused))
    shown = capsys.readouterr().out
    assert shown.count("broken") == bench_prepare.SHOWN
    assert "and 4 more; --json has all" in shown


def test_wrong_names_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "prepare", "s5"]) == 2
    assert (
        "there is no scenario 's5'; known are embedded, s1, s2, s3, s4" in capsys.readouterr().err
    )
    assert main(["bench", "prepair"]) == 2
    assert "there is no command 'prepair'; did you mean prepare?" in capsys.readouterr().err
    assert main(["bench", "prepare", "s1"]) == 2
    assert "s1 needs data; give the folder to look in with --data DIR" in capsys.readouterr().err


def test_static_help_lines_are_those_of_the_subcommands() -> None:
    context = click.Context(bench.command)
    for name, line in bench.COMMANDS.items():
        command = bench.command.get_command(context, name)
        assert command is not None and command.name == name
        assert (command.help or "").split("\n\n")[0].replace("\n", " ") == line


def test_help_and_list_load_no_framework() -> None:
    heavy = {"torch", "diffusers", "transformers", "onnxruntime", "matplotlib"}
    assert not loaded_after("bench", "--help") & heavy
    assert not loaded_after("bench", "list") & heavy
