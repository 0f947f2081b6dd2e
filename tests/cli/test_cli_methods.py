"""`sidestep methods`: the registry, complete."""

import json

import pytest

from sidestep import registry
from sidestep.cli.main import main


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
