"""Tables that fit, progress on stderr, output folders."""

import errno
from pathlib import Path

import pytest

from sidestep.cli._output import Column, fit, keeping, kept, prepare, print_table, progress
from sidestep.cli.main import Stopped
from sidestep.errors import SidestepError

COLUMNS = [
    Column("rule", ["dynamic"], right=False),
    Column("copies", ["12"]),
    Column("NFE", ["100"], 1),
    Column("seconds", ["0.1"], 2),
]


def test_the_least_important_columns_go_first() -> None:
    # Widths 7, 6, 3, 7 and two blanks between neighbours: 29, 20 and 15 in all.
    for width, left in [(29, []), (28, ["seconds"]), (20, ["seconds"]), (19, ["NFE", "seconds"])]:
        assert fit(COLUMNS, width)[1] == left
    assert fit(COLUMNS, 5)[1] == ["NFE", "seconds"]


@pytest.mark.parametrize("width", [29, 28, 20, 19, 15])
def test_what_fits_is_printed_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("A title", COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    shown, _ = fit(COLUMNS, width)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith("dynamic"))
    assert row.split() == [c.cells[0] for c in shown]


def test_brackets_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("t", [Column("copies", ["3 [0, 9]"]), Column("prompt", ["a [red] fox"])])
    shown = capsys.readouterr().out
    assert "3 [0, 9]" in shown
    assert "a [red] fox" in shown


def test_progress_without_terminal_is_lines_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress() as report:
        for done in range(101):
            report("plain", done, 100)
        report("empty", 0, 0)
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "plain: 0 of 100", "plain: 25 of 100", "plain: 50 of 100", "plain: 75 of 100",
        "plain: 100 of 100", "empty: 0 of 0",
    ]  # fmt: skip
    assert all("s left" in line for line in lines[1:4])


def test_progress_on_a_terminal_is_bars_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as report:
        report("plain", 1, 4)
        report("plain", 4, 4)
    output = capsys.readouterr()
    assert output.out == ""
    assert "plain" in output.err
    assert "4/4" in output.err


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("kept")
    with pytest.raises(SidestepError, match="is a file, and the output needs a folder"):
        prepare(file)
    with pytest.raises(SidestepError, match="lies below a file"):
        prepare(file / "demo")
    assert file.read_text() == "kept"


def test_output_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asked for instead of made read-only, because root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(SidestepError, match="may not be written to; give another path"):
        prepare(tmp_path)


def test_stopping_says_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images" / "plain").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "images" / "plain" / f"{i}.png").write_bytes(b"")
    # The third line was being written when the process ended: no record.
    (tmp_path / "records.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a"')
    with pytest.raises(Stopped, match=r"2 records .* and 3 pictures"), keeping(tmp_path):
        raise KeyboardInterrupt
    assert kept(tmp_path / "new").startswith("Nothing is kept")


def test_a_full_disk_says_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(OSError, match="full") as caught, keeping(tmp_path):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.__notes__ == [kept(tmp_path)]
