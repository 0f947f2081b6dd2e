"""The paper's scenarios run from end to end on stand-ins for their data."""

import json
import shutil
from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from bench import stand_ins
from PIL import Image

from sidestep.bench import demo, materials
from sidestep.bench.loading import load, names
from sidestep.bench.materials import methods, open_scenario
from sidestep.errors import BadData, BadModel, BadScenario
from sidestep.runs.records import read
from sidestep.runs.run import fill
from sidestep.similarity.pixels import Pixels
from sidestep.sources import pictures


@pytest.fixture(scope="module", params=stand_ins.MAKE)
def opened(request, tmp_path_factory):
    """Name, data folder and material of each of the paper's scenarios."""
    data = tmp_path_factory.mktemp(request.param)
    stand_ins.MAKE[request.param](data)
    return request.param, data, open_scenario(stand_ins.small(request.param), data)


def test_a_scenario_loads_generates_and_scores(opened, tmp_path):
    name, data, ready = opened
    scenario = stand_ins.small(name)
    rows = [how for same in methods(scenario).values() for how in same][:2]
    records = fill(
        tmp_path, ready.model, ready.jobs[:2], rows, seed=scenario.sampling.seed,
        steps=scenario.sampling.steps, score=ready.score, header=ready.header,
    )  # fmt: skip
    assert read(tmp_path / "records.jsonl") == records
    assert len(records) == 2 * len(rows)
    folder = data / scenario.references.path
    files = pictures.files(folder)
    vectors = Pixels().embed(np.stack([pictures.read(p, stand_ins.SIDE) for p in files]))
    own = {p.text: p.own for p in materials.read_prompts(scenario, data)}
    if name == "s1":  # two pictures have the caption "a fox", and both are its own
        own["a fox"] = tuple(p for p in files if p.stem in ("00000", "00003"))
    for record in records:
        shown = np.asarray(Image.open(tmp_path / record.image))
        assert shown.shape == (stand_ins.SIDE, stand_ins.SIDE, 3)
        similar = vectors @ Pixels().embed(shown[None])[0]
        assert record.nearest == files[similar.argmax()].relative_to(folder).as_posix()
        # Both are float32 products of unit rows of 3072 numbers.
        assert record.similarity["pixels-32"] == pytest.approx(similar.max(), abs=1e-5)
        closest = max(similar[files.index(p)] for p in own[record.prompt])
        assert record.own["pixels-32"] == pytest.approx(closest, abs=1e-5)
        assert record.own["pixels-32"] <= record.similarity["pixels-32"]
        assert record.copy == (record.similarity["pixels-32"] > 0.5) and record.threshold == 0.5
        assert record.kind == "target"
        assert record.agreement is None and record.nearest_image is None
    header = json.loads((tmp_path / "run.json").read_text())
    assert header["scenario"]["name"] == name
    assert header["model"]["name"] == scenario.model.path
    listed = [label for labels in header["compared"].values() for label in labels]
    assert [r.rule for r in records[::2]] == listed[: len(rows)]
    published = header["published"]
    assert (published is None) == (name in ("s2", "s4"))
    if name == "s3":
        row = next(r for r in published["rows"] if r["method"] == "DTP")
        assert row["values"]["similarity_p95"] == 0.5885 and row["confidence"] == "medium"
    assert header["cut"]["recipe"] == "pixels-32" == records[0].recipe
    assert header["data"]["references"] == len(files)
    assert header["data"]["unreadable"] == 0
    # Where a machine keeps its data is nobody's business, and no reason to refuse a continuation.
    assert str(data) not in (tmp_path / "run.json").read_text().replace(header["command"], "")


def test_the_jobs_are_those_of_the_paper_and_no_picture_is_made_twice(opened):
    name, _, ready = opened
    assert len({(j.prompt, j.draw) for j in ready.jobs}) == len(ready.jobs)
    prompts = [j.prompt for j in ready.jobs]
    # numpy's global state, as the released scripts use it.
    np.random.seed(42)
    if name == "s1":
        assert prompts == list(np.random.choice(["a fox", "a lemon", "a robot", "a fox"], 12))
    elif name == "s2":
        classes = [
            "tench", "English springer", "cassette player", "chain saw", "church", "French horn",
            "garbage truck", "gas pump", "golf ball", "parachute",
        ]  # fmt: skip
        assert prompts == [f"An image of {c}" for c in np.random.choice(classes, 12)]
    elif name == "s3":
        assert prompts == [f"a drawing of a robot {i}" for i in range(3)]
    else:
        assert prompts == ['a fox, said "Lifted Up"', "a café; a lemon", "=a robot"]


def test_verbatim_and_template_prompts_and_those_without_a_reference_are_told_apart(tmp_path):
    stand_ins.s4(tmp_path)
    ready = open_scenario(stand_ins.small("s4"), tmp_path)
    known = ready.score.prompts
    assert [one.form for one in known.values()] == ["template", "verbatim", None]
    assert [len(one.own) for one in known.values()] == [2, 1, 0]
    assert ready.header["data"]["prompts_by_form"] == {"template": 1, "verbatim": 1, "unknown": 1}
    assert ready.header["data"]["prompts_with_reference"] == 2
    # An unreadable reference is left out of the rows that follow it.
    (tmp_path / "gt_images/111/0.png").write_bytes(b"no picture")
    ready = open_scenario(stand_ins.small("s4"), tmp_path)
    assert [one.own for one in ready.score.prompts.values()] == [(0,), (1,), ()]
    assert ready.score.training.ids == ["111/1.png", "222/0.png"]
    data = ready.header["data"]
    assert data["unreadable"] == 1 and data["unreadable_files"][0]["file"] == "111/0.png"


def test_the_unet_of_s3_takes_the_place_of_the_released_one(tmp_path):
    stand_ins.s3(tmp_path)
    scenario = stand_ins.small("s3")
    with_its_own = open_scenario(scenario, tmp_path)
    weights = with_its_own.model.pipe.unet.state_dict()
    expected = stand_ins.tiny_sd.unet(seed=5).state_dict()
    torch.testing.assert_close(weights, expected, atol=0, rtol=0)
    as_released = msgspec.structs.replace(
        scenario, model=msgspec.structs.replace(scenario.model, unet=None)
    )
    other = open_scenario(as_released, tmp_path)
    assert other.header["model"]["sha256"] != with_its_own.header["model"]["sha256"]
    assert other.header["scenario"]["sha256"] != with_its_own.header["scenario"]["sha256"]


def test_the_header_changes_with_the_data_and_not_with_its_place(tmp_path):
    stand_ins.s4(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    scenario = stand_ins.small("s4")
    first, second = (open_scenario(scenario, tmp_path / n).header for n in "ab")
    assert first == second
    stand_ins.picture(tmp_path / "b/gt_images/222/0.png", 99)
    changed = open_scenario(scenario, tmp_path / "b").header
    assert changed["data"]["references_sha256"] != first["data"]["references_sha256"]
    assert changed["data"]["prompts_sha256"] == first["data"]["prompts_sha256"]


def test_a_scenario_without_its_data_is_refused_with_the_next_move(tmp_path):
    with pytest.raises(BadData, match="`sidestep bench prepare` with the same scenario"):
        open_scenario(load("s3"))
    with pytest.raises(BadData, match=r"memorized_images holds no prompt"):
        open_scenario(stand_ins.small("s3"), tmp_path)
    stand_ins.s3(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-20000")
    with pytest.raises(BadModel, match=r"checkpoint-20000/unet cannot be loaded"):
        open_scenario(stand_ins.small("s3"), tmp_path)


@pytest.mark.parametrize("name", names())
def test_every_scenario_of_the_package_has_methods_that_exist(name):
    scenario = load(name)
    rows = [how for same in methods(scenario).values() for how in same]
    assert len({how.label for how in rows}) == len(rows)
    assert rows[0].name == "constant" and rows[0].settings == {"scale": 7.5}
    if name == "embedded":
        assert all(len(m.strengths) == 5 for m in scenario.methods[1:])
        jobs = demo.jobs(
            scenario.prompts.target_draws,
            scenario.prompts.ordinary,
            scenario.prompts.ordinary_draws,
        )
        kinds = Counter(j.kind for j in jobs)
        assert kinds["target"] >= 20 * 4 and kinds["ordinary"] == 20 * 2


def test_the_scale_of_a_scenario_is_that_of_every_method_that_leaves_it_open():
    scenario = load("s3")
    sampling = msgspec.structs.replace(scenario.sampling, scale=5.0)
    made = methods(msgspec.structs.replace(scenario, sampling=sampling))
    assert made["no mitigation"][0].settings["scale"] == 5.0
    assert made["DTP"][0].settings["after"] == 5.0
    assert made["DTP"][0].settings["fallback"] is None
    assert made["OG + DTP, two passes"][0].settings == {"before": -5.0, "after": 5.0}
    assert made["random words"][0].settings["rule"]["scale"] == 5.0
    assert all(rows[0].scale == 5.0 for rows in made.values())


def test_rows_that_would_share_a_folder_are_refused():
    scenario = load("s3")
    both = ({"before": -1.0}, {"before": 1.0})
    compared = msgspec.structs.replace(scenario.methods[1], strengths=both)
    with pytest.raises(BadScenario, match="2 rows would be kept in the folder 'dtp-before-1-0'"):
        methods(msgspec.structs.replace(scenario, methods=(compared,)))


@pytest.mark.slow
def test_the_embedded_scenario_finds_the_copies_of_the_embedded_model(tmp_path):
    scenario = load("embedded")
    # Pixels decide; the network beside them would take most of the time.
    alone = msgspec.structs.replace(scenario.metric, beside=())
    ready = open_scenario(msgspec.structs.replace(scenario, metric=alone))
    plain = methods(scenario)["plain"]
    records = fill(tmp_path, ready.model, ready.jobs[:8], plain, score=ready.score)
    # Plain guidance brings back nearly every scene; the card's measurement is in docs/.
    assert sum(r.copy for r in records) >= 6
    assert all(r.own["pixels-32"] == r.similarity["pixels-32"] for r in records if r.copy)
    assert all(r.agreement is not None and r.form == "verbatim" for r in records)
