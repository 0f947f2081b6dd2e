"""The paper's scenarios from their data to tables and charts, on stand-ins for weights and data."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from bench import stand_ins
from PIL import Image
from reference.records_of import image

from sidestep.adapters.clip import CLIPScore
from sidestep.bench import measures
from sidestep.bench.demo import showing
from sidestep.bench.loading import load
from sidestep.bench.materials import methods, open_scenario
from sidestep.bench.prepare import prepare
from sidestep.cli.main import cli
from sidestep.errors import BadData, BadModel, SidestepWarning
from sidestep.runs.records import read
from sidestep.runs.run import fill
from sidestep.similarity import sscd_published
from sidestep.similarity.published import Published
from sidestep.similarity.sscd_published import PublishedSSCD, Weights
from sidestep.sources import pictures
from sidestep.web.report import write_report

PAPER = list(stand_ins.MAKE)
pytestmark = pytest.mark.filterwarnings("ignore:nobody publishes a hash")


@pytest.fixture(autouse=True)
def no_hash(monkeypatch):
    """The stand-in for SSCD's network is nobody's, and has one width."""
    some = {
        name: Weights(Published(one.published.file, None, "nowhere"), 1024)
        for name, one in sscd_published.WEIGHTS.items()
    }
    monkeypatch.setattr(sscd_published, "WEIGHTS", some)


def made(name, data):
    stand_ins.MAKE[name](data)
    stand_ins.measures(name, data)
    return stand_ins.short(name)


def run(scenario, data, out, labels=None):
    """A run of the first three pictures; of all methods, or of those with the labels."""
    ready = open_scenario(scenario, data)
    rows = [
        how for label, same in methods(scenario).items() for how in same
        if labels is None or label in labels
    ]  # fmt: skip
    return fill(
        out, ready.model, ready.jobs[:3], rows, steps=scenario.sampling.steps,
        score=showing(ready.score, ready.training, out), header=ready.header,
    )  # fmt: skip


def printed(capsys, *arguments):
    cli.main(["bench", *map(str, arguments)], standalone_mode=False, obj={})
    return capsys.readouterr().out


@pytest.mark.parametrize("name", PAPER)
def test_a_scenario_ends_in_tables_and_charts(name, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "run"
    scenario = made(name, data)
    assert prepare(scenario, data).ready
    records = run(scenario, data, out, ["no mitigation", "STP", "DTP", "Wen et al."])
    assert records == read(out / "records.jsonl")
    metric, folder = scenario.metric, data / scenario.references.path
    files = pictures.files(folder)
    sscd = PublishedSSCD(data / metric.decides.path, metric.decides.weights, metric.decides.preset)
    assert sscd.name == metric.decides.name
    vectors = sscd.embed(np.stack([pictures.read(p, stand_ins.SIDE) for p in files]))
    clip = CLIPScore(data / metric.text[0].path)
    for record in records:
        shown = np.asarray(Image.open(out / record.image))[None]
        # Float32 products of unit rows of 1024 numbers.
        similar = float((vectors @ sscd.embed(shown)[0]).max())
        assert record.similarity[sscd.name] == pytest.approx(similar, abs=1e-5)
        assert record.recipe == sscd.name and "pixels-32" in record.similarity
        # In a batch of other pictures the network rounds otherwise, by some 1e-7.
        expected = clip.score(shown, [record.prompt])[0]
        assert record.text == {clip.name: pytest.approx(expected, abs=1e-5)}
        assert record.agreement is None and record.nearest_image is None
    lines = json.loads(printed(capsys, "compare", out, "--json"))
    assert {row["recipe"] for row in lines} == {sscd.name}
    for row in lines:
        own = [
            r for r in records
            if r.rule == row["rule"] and (row["form"] is None or r.form == row["form"])
        ]  # fmt: skip
        if name == "s4" and row["form"] is None:
            own = [r for r in own if r.form is None]
        assert row["good_share"] is row["agreement_r1"] is row["agreement_r5"] is None
        assert row["text"] == {clip.name: pytest.approx(np.mean([r.text[clip.name] for r in own]))}
        assert row["images"] == len(own)
        changes = row["against_plain"]
        assert changes is None or set(changes) == {"copy_share", "similarity_mean", clip.name}
    forms = {"s4": ["verbatim", "template", None]}.get(name, [None])
    assert list(dict.fromkeys(row["form"] for row in lines)) == forms
    table = printed(capsys, "compare", out, "--format", "markdown")
    assert clip.name in table and sscd.name not in table.split("\n")[0]
    assert ("as published and here" in table) == (name in ("s1", "s3"))
    several = csv.DictReader(io.StringIO(printed(capsys, "compare", out, "--format", "csv")))
    assert all(float(row[clip.name]) for row in several)
    charts = tmp_path / "charts"
    printed(capsys, "curves", out, "--out", charts)
    for form in forms:
        mark = f"-{form or 'other'}" if len(forms) > 1 else ""
        page = (charts / f"comparison{mark}.html").read_text()
        assert clip.name in page and "copies least" in page
        assert ("Beside published numbers" in page) == (name in ("s1", "s3"))
        assert (charts / f"curves{mark}.png").stat().st_size > 5000
    report = write_report(out).read_text()
    assert f'<th scope="col">{clip.name}</th>' in report
    assert "The rule with the fewest copies" in report
    assert not (out / "images/training").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_every_method_of_a_scenario_runs(name, tmp_path, capsys):
    scenario = made(name, tmp_path / "data")
    run(scenario, tmp_path / "data", tmp_path / "run")
    lines = json.loads(printed(capsys, "compare", tmp_path / "run", "--json"))
    labels = [how.label for same in methods(scenario).values() for how in same]
    assert list(dict.fromkeys(row["rule"] for row in lines)) == labels
    if scenario.published is not None:
        beside = {row["rule"]: row["published"] for row in lines if row["published"]}
        assert beside["no mitigation"]["values"] == scenario.published.rows[0].values
        assert len({b["method"] for b in beside.values()}) == len(scenario.published.rows)


def test_what_decides_is_never_replaced_by_something_else(tmp_path):
    scenario = made("s4", tmp_path)
    weights = tmp_path / scenario.metric.decides.path
    weights.unlink()
    with pytest.raises(BadModel, match=r"there is no file .*sscd_disc_large\.torchscript\.pt; get"):
        open_scenario(scenario, tmp_path)
    answer = prepare(scenario, tmp_path)
    (item,) = (i for i in answer.items if i.state != "ready")
    assert not answer.ready and item.path == weights.name
    weights.write_bytes(b"no network")
    (item,) = (i for i in prepare(scenario, tmp_path).items if i.state != "ready")
    assert item.state == "damaged" and "cannot be read as TorchScript" in item.says
    with pytest.raises(BadData, match="give its folder with --data"):
        measures.recipe(scenario.metric.decides, None)


def test_weights_without_a_published_hash_say_the_one_to_expect(tmp_path):
    scenario = made("s4", tmp_path)
    (item,) = (i for i in prepare(scenario, tmp_path).items if i.path.startswith("sscd"))
    assert item.state == "ready" and "from now on" in item.says
    with pytest.warns(SidestepWarning, match="give sha256="):
        measures.recipe(scenario.metric.decides, tmp_path)


def test_without_clip_the_run_goes_on_and_says_what_is_missing(tmp_path, capsys, monkeypatch):
    data, out = tmp_path / "data", tmp_path / "run"
    scenario = made("s3", data)
    (one,) = scenario.metric.text
    (data / one.path).rename(data / "elsewhere")
    monkeypatch.setattr("sidestep.adapters.checkpoints.cached", lambda hub, file="": False)
    answer = prepare(scenario, data)
    (item,) = (i for i in answer.items if i.state != "ready")
    assert answer.ready and item.path == one.path
    assert f"hf download {one.hub}; without it there is no CLIP score" in item.says
    assert run(scenario, data, out, ["no mitigation"])[0].text == {}
    header = json.loads((out / "run.json").read_text())
    assert (
        f"There is no CLIP score of {one.hub}: the data folder has no {one.path}."
        in (header["notes"])
    )
    assert "no mitigation" in printed(capsys, "compare", out)
    with pytest.raises(Exception, match="nothing to draw copies against"):
        printed(capsys, "curves", out, "--out", tmp_path / "charts")
    # A model that is there and damaged is no missing one.
    (data / one.path).mkdir()
    with pytest.raises(BadModel, match="cannot be loaded as a CLIP"):
        open_scenario(scenario, data)


def test_a_clip_in_the_cache_of_the_hub_is_there(tmp_path, monkeypatch):
    (one,) = load("s1").metric.text
    asked = []
    monkeypatch.setattr(
        "sidestep.adapters.checkpoints.cached", lambda *which: not asked.append(which)
    )
    assert measures.source_of(one, tmp_path) == one.hub
    assert asked == [(one.hub, "config.json")]
    (tmp_path / one.path).mkdir()
    assert measures.source_of(one, tmp_path) == tmp_path / one.path


def test_the_nearest_training_picture_is_shown_where_it_may_be(tmp_path):
    training = {"target/00": np.full((4, 4, 3), 7, np.uint8)}
    record = image("plain", "p", 0, 0.9, None, nearest="target/00")
    score = showing(lambda rows, images: rows, training, tmp_path)
    (shown,) = score([record], None)
    assert (np.asarray(Image.open(tmp_path / shown.nearest_image)) == 7).all()
    other = replace(record, nearest="target/01")
    assert score([other], None) == [other]
    assert showing(lambda rows, images: rows, {}, tmp_path)([record], None) == [record]
