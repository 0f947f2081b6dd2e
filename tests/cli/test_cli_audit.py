"""`sidestep audit`, as a user types it: exit codes, refusals, and the demo."""

import json
import shlex
import socket

import numpy as np
import pytest
from PIL import Image
from reference import toy_audit
from reference.toy_audit import Toy

from sidestep.audit import demo
from sidestep.audit.evidence import Evidence
from sidestep.cli import _audit_demo
from sidestep.cli.main import main
from sidestep.models.embedded import pictures
from sidestep.runs.generate import method


@pytest.fixture
def toy(monkeypatch):
    """The demo, with the stand-in in the place of the embedded model."""
    from sidestep.audit.request import Subject

    memorized = [toy_audit.MEMORIZED]

    def prepared(model, options):
        how = method(**options["rule"], mitigations=options["mitigations"])
        return Subject(Toy(memorized=memorized[0]), "toy", how), toy_audit.material()

    monkeypatch.setattr(_audit_demo, "prepared", prepared)
    return memorized


FEW = ["--steps", "10", "--rate", "0.01", "--try", "static"]


def test_a_finding_exits_with_1_and_the_report_is_there(toy, tmp_path, capsys):
    assert main(["audit", "demo", "--out", str(tmp_path), *FEW]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("FINDING") and "Recommended: static 0.5, confirmed" in shown
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert main(["verify", str(tmp_path)]) == 0
    evidence = Evidence.read(tmp_path)
    assert evidence.scope.command == (
        "sidestep audit demo --try static --steps 10 --rate 0.01 --rule constant:scale=7.5"
    )
    assert evidence.recommendation.command.count("--rule") == 1


def test_exit_codes_of_the_other_verdicts(toy, tmp_path, capsys):
    toy[0] = 0
    assert main(["audit", "demo", "--out", str(tmp_path / "a"), *FEW, "--draws", "12"]) == 0
    assert main(["audit", "demo", "--out", str(tmp_path / "b"), *FEW, "--draws", "1"]) == 3
    loose = ["--draws", "1", "--fail-on", "finding"]
    assert main(["audit", "demo", "--out", str(tmp_path / "b"), *FEW, *loose]) == 0
    toy[0] = toy_audit.MEMORIZED
    assert main(["audit", "demo", "--out", str(tmp_path / "c"), *FEW, "--fail-on", "never"]) == 0


def test_json_is_the_evidence(toy, tmp_path, capsys):
    assert main(["audit", "demo", "--out", str(tmp_path), *FEW, "--try", "none", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"]["state"] == "finding"


def test_another_question_in_the_same_folder(toy, tmp_path, capsys):
    assert main(["audit", "demo", "--out", str(tmp_path), *FEW]) == 1
    assert main(["audit", "demo", "--out", str(tmp_path), *FEW, "--level", "0.2"]) == 2
    assert "asked something else (level)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["embedded"], "--images is missing"),
        (["embedded", "--images", "x"], "--controls is missing"),
        (["demo", "--images", "x"], "takes no --images"),
        (["demo", "--rule", "statik"], "did you mean static"),
        (["demo", "--rule", "static:time"], "a setting without a value"),
        (["demo", "--level", "1.5"], "1.5"),
        (["demo", "--workers", "2"], "add --engine ray"),
        (["demo", "--lora-scale", "2"], "--lora"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, capsys, arguments, says):
    assert main(["audit", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow  # samples the embedded model 500 times
def test_the_embedded_model_is_found_out(tmp_path, monkeypatch, capsys):
    """Fewer captions and settings than `sidestep audit demo`, and no connection to anywhere."""

    def refuse(*args, **more):
        raise AssertionError("an audit asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    few = ["--draws", "2", "--captions", "30", "--try", "static"]
    assert main(["audit", "demo", "--out", str(tmp_path / "a"), *few]) == 1
    evidence = Evidence.read(tmp_path / "a")
    targets = {t.caption for t in pictures.targets()}
    copied = {
        g.name for g in evidence.results.prompts if g.name in targets
    }  # what plain guidance copies
    found = {f.training.caption for f in evidence.findings}
    assert len(copied & found) >= 0.9 * len(copied) and len(copied) >= 20
    controls = {item.path for item in demo.never_trained().items()}
    assert not controls & {f.training.path for f in evidence.findings}
    assert evidence.search.negative.copies == 0
    assert evidence.recommendation.holds and evidence.recommendation.seed != 0
    assert main(["verify", str(tmp_path / "a")]) == 0
    # An exhibit's command makes its picture again, but for what another batch rounds otherwise.
    shown = evidence.findings[0].exhibits[0]
    command = shlex.split(str(shown.command).replace("MODEL", "embedded"))[1:]
    assert main([*command, "--out", str(tmp_path / "again")]) == 0
    last = sorted((tmp_path / "again" / "images").rglob("*.png"))[-1]
    made, there = (
        np.asarray(Image.open(path)).astype(int) for path in (last, tmp_path / "a" / shown.picture)
    )
    assert abs(made - there).max() <= 1


@pytest.mark.parametrize("option", ["--images", "--controls"])
def test_an_audit_inside_of_its_pictures_is_refused(tmp_path, capsys, option):
    inside, beside = tmp_path / "pictures", tmp_path / "others"
    for folder in (inside, beside):
        folder.mkdir()
    other = {"--images": "--controls", "--controls": "--images"}[option]
    given = ["audit", "embedded", option, str(inside), other, str(beside)]
    assert main([*given, "--out", str(inside / "audit")]) == 2
    assert "lies inside" in capsys.readouterr().err
    assert not (inside / "audit").exists()
