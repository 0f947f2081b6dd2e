"""An audit of a pipeline with a loop of its own: SDXL, with a network that memorizes."""

import shlex
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from adapters import tiny_pipelines
from reference.toy_audit import HERE, plain

from sidestep.adapters.pipelined import Pipelined
from sidestep.audit import demo
from sidestep.audit.bundle import check
from sidestep.audit.recount import recount
from sidestep.audit.request import Material, Request, Subject
from sidestep.audit.run import audit
from sidestep.cli.main import main
from sidestep.errors import BadRecords
from sidestep.models.embedded import pictures
from sidestep.runs.generate import method
from sidestep.similarity.pixels import Pixels

COPIED = 10  # captions sampled
REQUEST = Request(
    captions=COPIED, draws=2, ordinary=4, empty=2, steps=12, batch=8, rate=0.01, level=0.1,
    tries=("constant", "static", "random-words"), tried_draws=1,
)  # fmt: skip


def material():
    """The pictures that training repeated, under their captions."""
    own, others = (
        demo.Drawn([(f"{p.id}.png", p.caption, p.pixels) for p in rows])
        for rows in (pictures.target_pictures()[:COPIED], pictures.control_pictures(3))
    )
    return Material(
        images=own, source="scenes", recipe=Pixels(32), side=64, controls=others,
        controls_source="other drawings", ordinary=demo.ordinary(), ordinary_source="captions",
    )  # fmt: skip


@cache
def drawn():
    """Drawing takes longer than sampling."""
    return material()


def run(out, how=None, **more):
    subject = Subject(
        Pipelined(tiny_pipelines.sdxl()), "sdxl", how or method("constant"), loading=("--x", "1")
    )
    return audit(
        out, subject, drawn(), replace(REQUEST, **more), command="sidestep audit sdxl",
        present=plain, engines=HERE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("audits") / "sdxl"
    run(out)
    return out


@pytest.fixture
def evidence(folder):
    return run(folder)  # finished already: read again


@pytest.mark.slow  # three audits of some hundred pictures
def test_what_memorizes_is_found_and_a_rule_is_recommended(evidence, folder):
    assert evidence.verdict.state == "finding" and check(folder, recounts=[recount]).holds
    assert len(evidence.findings) >= 0.9 * COPIED
    assert evidence.search.negative.copies <= 1  # of 20, at a rate of one in a hundred
    best = evidence.recommendation
    assert best.name == "static" and best.holds
    assert "sidestep.guide(pipe" in best.python
    assert evidence.model.sampler.startswith("DPMSolverMultistepScheduler ")
    unfit = {one.name: one.unfit for one in evidence.tried if one.unfit}
    assert list(unfit) == ["random-words"] and "a rule works in it" in unfit["random-words"]
    assert " --x 1 " in evidence.findings[0].exhibits[0].command
    # With the recommendation on, less comes back than the audit alone would call a finding.
    cured = run(folder.parent / "cured", method(best.name, **best.settings), tries=("none",))
    assert cured.verdict.state in ("pass", "inconclusive")


@pytest.mark.slow
def test_another_scheduler_is_another_audit(folder):
    model = Pipelined(tiny_pipelines.sdxl())
    model.pipe.scheduler.register_to_config(solver_order=1)
    subject = Subject(model, "sdxl", method("constant"), loading=("--x", "1"))
    with pytest.raises(BadRecords, match=r"asked something else \(sampler\)"):
        audit(folder, subject, drawn(), REQUEST, command="", present=plain, engines=HERE)


def test_a_folder_of_another_family_from_the_command_line(tmp_path, capsys):
    """Random weights memorize nothing; that the parts fit together is what is looked at."""
    tiny_pipelines.sd3().save_pretrained(tmp_path / "sd3")
    from PIL import Image

    for name in ("training", "controls"):
        (tmp_path / name).mkdir()
        for i in range(6 if name == "training" else 40):
            noise = np.random.default_rng([i, name == "training"]).integers(
                0, 256, (8, 8, 3), np.uint8
            )
            Image.fromarray(noise).save(tmp_path / name / f"{i}.png")
            (tmp_path / name / f"{i}.txt").write_text(f"a red fox {i}")
    common = ["--precision", "bfloat16", "--resolution", "16"]
    code = main(
        ["audit", str(tmp_path / "sd3"), "--images", str(tmp_path / "training"), "--controls",
         str(tmp_path / "controls"), "--recipe", "pixels", "--steps", "3", "--draws", "1",
         "--rate", "0.1", "--rule", "static:time=0.5", *common, "--out", str(tmp_path / "audit")]
    )  # fmt: skip
    assert code in (0, 1, 3), capsys.readouterr().err
    text = (tmp_path / "audit" / "audit.json").read_text()
    assert '"precision":"bfloat16"' in text and '"resolution":[16,16]' in text
    assert main(["verify", str(tmp_path / "audit")]) == 0
    said = capsys.readouterr().out
    assert "--precision bfloat16 --resolution 16" in text, said
    # As an exhibit's command would ask for a picture.
    asked = ["sample", str(tmp_path / "sd3"), "a red fox 1", "--rule", "static:time=0.5"]
    assert main([*asked, *common, "--steps", "3", "--out", str(tmp_path / "again")]) == 0
    made = next((tmp_path / "again" / "images").rglob("*.png"))
    assert Image.open(made).size == (16, 16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mitigation", "random-words"], "a rule works in it"),
        (["--rule", "probe"], "keeps its own"),
        (["--finer", "9"], "leave finer steps out"),
    ],
)
def test_what_has_no_place_in_a_foreign_loop_is_a_sentence(tmp_path, capsys, options, words):
    tiny_pipelines.pixart().save_pretrained(tmp_path / "m")
    command = shlex.split(f"sample {tmp_path}/m 'a fox' --steps 2 --out {tmp_path}/out")
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "images").exists()
