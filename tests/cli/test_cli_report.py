"""`sidestep report`: run folder or records in, a file out; damaged records are named."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sidestep.cli.main import cli, main
from sidestep.runs.records import Record, append

RECORD = Record(
    rule="plain", method="constant", settings={"scale": 7.5}, before=None, kind="other",
    prompt="a fox", seed=1, draw=0, image="images/plain/0000.png", transition=0,
    transition_time=0.999, opened_by="start", nfe=100, seconds=0.3, nearest=None,
    nearest_image=None, similarity={}, recipe=None, threshold=None, copy=None, agreement=None,
    spread=None,
)  # fmt: skip


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path | None]]:
    """Replace the report writer; what it was called with."""
    calls: list[tuple[Path, Path | None]] = []

    def write_report(run_folder: Path, out: Path | None = None) -> Path:
        calls.append((run_folder, out))
        return out or run_folder / "report.html"

    module = ModuleType("sidestep.web.report")
    module.write_report = write_report  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sidestep.web.report", module)
    return calls


@pytest.fixture
def run(tmp_path: Path) -> Path:
    append(tmp_path / "records.jsonl", [RECORD, RECORD])
    return tmp_path


@pytest.mark.parametrize("name", ["", "records.jsonl"])
def test_folder_and_records_are_the_same(
    name: str, run: Path, written: list[tuple[Path, Path | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["report", str(run / name)]) == 0
    assert written == [(run, None)]
    assert str(run / "report.html") in capsys.readouterr().out


def test_another_file_and_json(
    run: Path, written: list[tuple[Path, Path | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = run / "other.html"
    assert main(["report", str(run), "--out", str(out), "--json"]) == 0
    assert written == [(run, out)]
    assert json.loads(capsys.readouterr().out) == {"report": str(out), "records": 2}


def test_records_cut_in_half(
    run: Path, written: list[tuple[Path, Path | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "records.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    assert main(["report", str(run)]) == 2
    shown = capsys.readouterr().err
    assert "line 2 of 2: not a whole JSON record, the file was cut off there" in shown
    assert "Delete that line" in shown
    assert written == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", "does not exist; give the folder of a run"),
        ("empty", "has no records.jsonl"),
        ("other.jsonl", "is not called records.jsonl"),
    ],
)
def test_what_is_no_run_is_refused(
    path: str, words: str, tmp_path: Path, written: list[tuple[Path, Path | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.jsonl").write_text("{}\n")
    assert main(["report", str(tmp_path / path)]) == 2
    assert words in capsys.readouterr().err
    assert written == []


def test_an_output_that_is_a_folder(
    run: Path, written: list[tuple[Path, Path | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--out", str(run)]) == 2
    assert "is a folder; give the name of a file" in capsys.readouterr().err
    assert written == []


def test_an_audit_gets_the_report_of_an_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from web.bundles import evidence, write

    folder = write(tmp_path / "audit", evidence(1))
    assert cli.main(["report", str(folder), "--json"], standalone_mode=False, obj={}) is None
    assert json.loads(capsys.readouterr().out) == {
        "report": str(folder / "report.html"),
        "state": "finding",
        "findings": 1,
    }
    first = (folder / "report.html").read_bytes()
    other = tmp_path / "other.html"
    assert main(["report", str(folder), "--out", str(other)]) == 0
    assert "finding, 1 training picture came back" in capsys.readouterr().out
    assert other.read_bytes() == first
    (folder / "audit.json").write_bytes(b"{}")
    assert main(["report", str(folder)]) == 2
    assert "is not what `sidestep audit` of this version writes" in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == first


def test_a_sealed_audit_stays_as_it_was_sealed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from web.bundles import evidence, write

    from sidestep.audit.bundle import check, seal

    folder = write(tmp_path / "audit", evidence(1))
    assert main(["report", str(folder)]) == 0
    written = (folder / "report.html").read_bytes()
    seal(folder)
    assert main(["report", str(folder)]) == 0  # the same bytes
    assert main(["report", str(folder), "--out", str(folder / "other.html")]) == 2
    (folder / "report.html").write_bytes(b"of another version")
    seal(folder)
    assert main(["report", str(folder)]) == 2
    assert "is sealed" in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == b"of another version"
    assert not (folder / "other.html").exists()
    assert main(["report", str(folder), "--out", str(tmp_path / "now.html")]) == 0
    assert (tmp_path / "now.html").read_bytes() == written
    assert check(folder).holds
