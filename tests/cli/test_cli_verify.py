"""`sidestep verify`, as a user types it."""

import json

import pytest

from sidestep.audit.bundle import seal
from sidestep.cli.main import cli, main

pytest.importorskip("rfc8785")


@pytest.fixture
def sealed(tmp_path):
    for name in ("records.jsonl", "report.html"):
        (tmp_path / name).write_text(name)
    (tmp_path / "audit.json").write_text('{"images":0}')
    return tmp_path, seal(tmp_path)


def test_a_bundle_that_holds_is_one_line(sealed, capsys):
    folder, number = sealed
    assert main(["verify", str(folder), "--expect", number]) == 0
    assert capsys.readouterr().out == f"3 files as they were sealed, hash {number}\n"
    assert cli.main(["verify", str(folder)], standalone_mode=False, obj={}) == 0
    assert main(["verify", str(folder), "--json"]) == 0
    capsys.readouterr()
    (folder / "work").mkdir()
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(" (not covered: work/)\n")


def test_json_has_every_fact(sealed, capsys):
    folder, number = sealed
    assert main(["verify", str(folder), "--expect", number, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "holds": True, "hash": number, "expected": number, "files": 3, "bytes": 36,
        "problems": [], "not_covered": [],
    }  # fmt: skip


def test_findings_are_a_sentence_each_and_exit_with_1(sealed, capsys):
    folder, _ = sealed
    (folder / "report.html").write_text("other")
    (folder / "records.jsonl").unlink()
    assert main(["verify", str(folder), "--expect", "0" * 64]) == 1
    shown = capsys.readouterr()
    first, second, third = shown.out.splitlines()
    assert "was expected" in first and not shown.err
    assert second == "'records.jsonl' is missing."
    assert third.startswith("'report.html' was changed")
    assert main(["verify", str(folder), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/no"], "is no bundle"),
        (["{folder}/report.html"], "is no bundle"),
        (["{folder}", "--expect", "abc"], "is no SHA-256"),
    ],
)
def test_what_is_no_bundle_exits_with_2(sealed, capsys, arguments, said):
    assert main(["verify", *(a.format(folder=sealed[0]) for a in arguments)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("Error: ") and not shown.out
