"""`sidestep methods`: the registry, complete."""

import json

import pytest

from sidestep import registry
from sidestep.cli.main import main
from sidestep.cli.methods import REQUIRED, SETTABLE


def test_json_is_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["kind"], r["summary"], r["source"]) for r in shown] == [
        (e.name, e.kind, e.summary, e.source) for e in registry.entries()
    ]


def test_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--kind", "rule", "--json"]) == 0
    assert {r["kind"] for r in json.loads(capsys.readouterr().out)} == {"rule"}


def test_table_names_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"\n{e.name} " in shown for e in registry.entries())


def test_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--kind", "rul"]) == 2
    assert "'rule'" in capsys.readouterr().err


def test_settings_of_every_method_are_what_its_object_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    every = [e.name for e in registry.entries(*SETTABLE)]
    assert main(["methods", *every, "--json"]) == 0
    shown = {r["name"]: r["settings"] for r in json.loads(capsys.readouterr().out)}
    assert list(shown) == every
    assert shown["static"] == {
        "time": {"type": "float | tuple[float, ...]", "default": "0.5"},
        "before": {"type": "float | Scheduled", "default": "0.0"},
        "after": {"type": "float | Scheduled | None", "default": "None"},
    }
    assert shown["probe"]["before"]["default"] == "-7.5"
    assert shown["pixels"]["side"]["default"] == "32"
    assert shown["sscd-published"]["path"]["default"] == REQUIRED
    typed = [s for own in shown.values() for one in own.values() for s in one.values()]
    assert not any("<" in s or "typing." in s for s in typed)


def test_settings_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "static", "lpips"]) == 0
    shown = capsys.readouterr().out
    assert "settings of static" in shown and "before" in shown and "no settings" in shown
    assert main(["methods", "statik"]) == 2
    assert "did you mean static" in capsys.readouterr().err
