"""The entry: lazy loading, exit codes, errors as one sentence."""

import errno
import importlib
import json
import os
import subprocess
import sys

import click
import pytest

from sidestep.cli import main as entry
from sidestep.cli import methods
from sidestep.errors import SidestepError


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `sidestep methods` raise."""

    @click.command("methods")
    def command() -> None:
        raise error

    monkeypatch.setattr(methods, "command", command)


def loaded_after(*arguments: str) -> set[str]:
    """Top-level modules that a fresh `sidestep ARGUMENTS` has imported when it is done."""
    code = (
        "import sys, json\n"
        "from sidestep.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["sample", "--help"]])
def test_help_loads_no_framework(arguments: list[str]) -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "onnxruntime", "matplotlib"}
    assert not loaded_after(*arguments) & heavy


def test_help_loads_no_command() -> None:
    assert "rich" not in loaded_after("--help")


def test_static_help_lines_are_those_of_the_commands() -> None:
    context = click.Context(entry.cli)
    for name, line in entry.COMMANDS.items():
        command = entry.cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").split("\n\n")[0].replace("\n", " ") == line


def test_help_documents_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert f"\n    {code}" in shown


def test_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["dmeo"]) == 2
    assert "did you mean demo?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SidestepError("no such thing; give another"), "Error: no such thing; give another\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a.png"),
            "Error: out/a.png: no space left on device; free some space or give another --out, "
            "then run again\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "out"),
            "Error: out: permission denied; give a place that you may read and write\n",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            "Error: a/b: not a directory; a file lies where a folder is needed: "
            "give another path\n",
        ),
        (OSError("a reader gave up"), "Error: a reader gave up\n"),
        (
            ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"),
            "Error: the package onnxruntime is not installed; `sidestep doctor` prints the line "
            "that installs what is missing\n",
        ),
    ],
)
def test_problems_are_one_sentence(
    error: Exception,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert entry.main(["methods"]) == 2
    output = capsys.readouterr()
    assert output.err == shown
    assert output.out == ""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("axes do not match"),
        RuntimeError("kernel"),
        AssertionError(),
        ModuleNotFoundError("gone", name="sidestep.nothing"),
    ],
)
def test_a_bug_shows_its_traceback_and_is_no_finding(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, error)
    assert entry.main(["methods"]) == 2  # 1 is the answer "no"
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and "please report it" in shown


def test_traceback_option_shows_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, SidestepError("no"))
    assert entry.main(["--traceback", "methods"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and "report it" not in shown


def test_full_memory_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"))
    assert entry.main(["methods"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Error: the memory is full") and "--batch" in shown


def test_stop_says_that_nothing_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert entry.main(["methods"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped. Nothing had been written."


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from sidestep.cli.main import main; sys.exit(main(['methods', '--json']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_command_has_a_module() -> None:
    for name in entry.COMMANDS:
        module = name.replace("-", "_")
        assert importlib.import_module(f"sidestep.cli.{module}").command.name == name
