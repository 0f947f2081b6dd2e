"""`sidestep demo` over a demo that is replaced by its documented result."""

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sidestep.cli.main import main

ROW = {
    "images": 150, "copies": 138, "copy_share": 0.92, "copy_low": 0.864, "copy_high": 0.958,
    "good_share": 0.08, "opened_by_signal": 90, "opened_by_fallback": 60, "never_opened": 0,
    "similarity_mean": 0.87, "similarity_p95": 0.985, "agreement_r1": 0.84, "agreement_r5": 0.97,
    "diversity": 0.123, "nfe": 100.0, "seconds": 0.314, "text": {},
}  # fmt: skip
SUMMARY = {
    "rules": {
        "plain": {"target": ROW, "ordinary": {**ROW, "diversity": None, "copy_share": 0.0}},
        "dynamic to the letter": {"target": ROW, "ordinary": ROW},
    },
    "seed": 0,
}


def replace_demo(monkeypatch: pytest.MonkeyPatch, run: Callable[..., dict[str, Any]]) -> None:
    """Stand in for `sidestep.bench.demo`."""
    module = ModuleType("sidestep.bench.demo")
    module.run_demo = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sidestep.bench.demo", module)
    # The fake leaves no run folder to draw; tests/web covers what these two make of one.
    monkeypatch.setattr("sidestep.web.grid.write_grid", lambda *_: None)
    monkeypatch.setattr("sidestep.web.report.write_report", lambda *_: None)


def fine(out: Path, **arguments: Any) -> dict[str, Any]:
    """A demo that works."""
    arguments["report"]("plain", 1, 2)
    arguments["report"]("plain", 2, 2)
    return SUMMARY


def test_the_fake_row_is_the_real_row() -> None:
    from sidestep.runs.summary import Row

    assert asdict(Row(**ROW)) == ROW  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 200])
def test_table_fits_the_terminal(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_demo(monkeypatch, fine)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["demo", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr()
    table = output.out[: output.out.index("n pictures;")]
    assert max(len(line) for line in table.splitlines()) <= width
    assert table.count("dynamic to the letter") == 2
    assert "92 [86, 96]" in table
    assert "90/60" in table
    assert ("0.87/0.98" in table) == (width == 200)
    assert ("no room here for" in output.out) == (width == 80)
    for name in ("report.html", "grid.png", "records.jsonl", "summary.json"):
        assert str(tmp_path / name) in output.out
    assert "plain: 2 of 2" in output.err


def test_json_is_the_summary_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_demo(monkeypatch, fine)
    assert main(["demo", "--out", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("files")["grid"] == str(tmp_path / "grid.png")
    assert shown == SUMMARY


def test_options_reach_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(out: Path, **arguments: Any) -> dict[str, Any]:
        seen.update(arguments, out=out)
        return SUMMARY

    replace_demo(monkeypatch, run)
    assert main(["demo", "--out", str(tmp_path / "new"), "--seed", "3", "--quick"]) == 0
    assert (seen["out"], seen["seed"], seen["quick"]) == (tmp_path / "new", 3, True)


def test_a_file_in_place_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_demo(monkeypatch, fine)
    (tmp_path / "out").write_text("")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "is a file, and the output needs a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Stopped. Kept in"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left on device; free"),
    ],
)
def test_what_was_finished_is_kept_and_told(
    error: BaseException, code: int, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def run(out: Path, **arguments: Any) -> dict[str, Any]:
        (out / "records.jsonl").write_text("{}\n{}\n")
        raise error

    replace_demo(monkeypatch, run)
    assert main(["demo", "--out", str(tmp_path)]) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "2 records (records.jsonl)" in shown
