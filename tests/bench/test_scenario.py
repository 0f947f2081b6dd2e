"""Scenario files: what they may say, and what is answered to the rest."""

import re
from importlib.resources import files
from typing import get_args

import msgspec
import pytest

from sidestep.adapters import clip
from sidestep.bench.loading import load, names
from sidestep.bench.materials import methods
from sidestep.bench.scenario import SSCD, Scenario
from sidestep.errors import BadScenario
from sidestep.sampling import NoiseSchedule
from sidestep.similarity import sscd_published


def text(name="s3"):
    return files("sidestep.bench").joinpath("scenarios", f"{name}.toml").read_text()


def edited(tmp_path, old, new, name="s3"):
    assert old in text(name)
    path = tmp_path / "mine.toml"
    path.write_text(text(name).replace(old, new, 1))
    return path


def test_the_paper_and_the_embedded_model_have_scenarios():
    assert names() == ["embedded", "s1", "s2", "s3", "s4"]
    assert [load(name).name for name in names()] == names()


def test_a_file_says_the_same_as_the_name(tmp_path):
    (tmp_path / "copy.toml").write_text(text())
    assert load(tmp_path / "copy.toml") == load("s3")
    assert load(str(tmp_path / "copy.toml")).fingerprint == load("s3").fingerprint


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[prompts]", "[promts]", r"there is no field 'promts'; did you mean prompts\?"),
        ("steps = 50", "step = 50", r"sampling: there is no field 'step'; did you mean steps"),
        # The fields of that table, and of no other.
        ("steps = 50", "rule = 50", r"'rule'; known are resolution, scale, seed, solver, steps"),
        ("steps = 50", 'steps = "50"', r"sampling\.steps: expected int, got str"),
        ("steps = 50\n", "", r"sampling: the field 'steps' is missing"),
        ("steps = 50", "steps = 0", r"sampling\.steps: expected int >= 1"),
        ('"pairs"', '"pair"', r"prompts\.format is 'pair'; did you mean pairs\?"),
        ('"stable-diffusion"', '"sd"', r"model\.kind is 'sd'; known are embedded, stable-diff"),
        ("dpm-solver++2m", "ddim", r"sampling\.solver is 'ddim'; known are dpm-solver\+\+2m"),
        ('"medium"', '"hgih"', r"published\.rows\[0\]\.confidence is 'hgih'; did you mean high"),
        ('"constant"', '"constnat"', r"no rule named 'constnat'; did you mean constant"),
        ('["pixels"]', '["pixles"]', r"no similarity named 'pixles'; did you mean pixels"),
        ('"disc_large"', '"disc_lage"', r"weights is 'disc_lage'; did you mean disc_large"),
        ('preset = "dcr"', 'preset = "wen"', r"preset is 'wen'; known are dcr, membench, offic"),
        ('label = "DTP"', 'label = "OG + DTP"', r"the label 'OG \+ DTP' comes twice"),
        ("clip = 0.3105", "clop = 0.3105", r"recipes does not say what measured 'clop'"),
        ('what = "SSCD', 'optional = "all"\nwhat = "SSCD', r"without what decides; its need"),
        ("cut = 0.5\n", "", r"metric\.cut is calibrated for the embedded model"),
        ('path = "memorized_images"\ncount', 'path = "../x"\ncount', r"'\.\./x' leads out of the"),
        ('path = "memorized_images"\ncount', 'path = "/etc"\ncount', r"'/etc' leads out of the"),
        ('path = "memorized_images"\ncount', 'path = "other"\ncount', r"where 'other' comes from"),
        ("format = 1", "format = 2", r"has format 2; this version reads format 1"),
        ("format = 1\n", "", r"has format \(none\)"),
        ("format = 1", "format = ", r"is not TOML in UTF-8"),
    ],
)  # fmt: skip
def test_what_a_scenario_cannot_say_is_answered_with_a_sentence(tmp_path, old, new, says):
    with pytest.raises(BadScenario, match=says):
        load(edited(tmp_path, old, new))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("An image of {}", "An image", r"prompts: template is 'An image'; it must have \{\}"),
        ("n01440764 =", '"../../x" =', r"the path 'imagenette2/train/\.\./\.\./x' leads out of"),
        ("numpy_seed = 42", "numpy_seed = -1", r"prompts\.choose\.numpy_seed: expected int >= 0"),
    ],
)
def test_classes_stay_in_their_folder_and_need_a_template(tmp_path, old, new, says):
    with pytest.raises(BadScenario, match=says):
        load(edited(tmp_path, old, new, "s2"))


def test_the_embedded_model_takes_no_other_data(tmp_path):
    with pytest.raises(BadScenario, match="must all be embedded, or none of them"):
        load(edited(tmp_path, "[sampling]", '[references]\npath = "x"\n\n[sampling]', "embedded"))


def test_a_name_that_does_not_exist_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadScenario, match=r"no scenario 'embeded'; did you mean embedded\?"):
        load("embeded")
    with pytest.raises(BadScenario, match="cannot be read"):
        load(tmp_path / "nothing.toml")


def test_the_fingerprint_is_of_what_is_said_and_not_of_how(tmp_path):
    same = edited(tmp_path, "steps = 50", "steps   =   50  # of DPM-Solver++")
    assert load(same).fingerprint == load("s3").fingerprint
    other = edited(tmp_path, "steps = 50", "steps = 51")
    assert load(other).fingerprint != load("s3").fingerprint


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_every_scenario_says_where_its_data_comes_from_and_what_may_be_done_with_it(name):
    scenario = load(name)
    assert scenario.paths() and all(n.what and n.origin and n.licence for n in scenario.needs)
    labels = {m.label for m in scenario.methods}
    labels |= {how.label for rows in methods(scenario).values() for how in rows}
    rows = scenario.published.rows if scenario.published else ()
    assert {row.method for row in rows} <= labels
    assert scenario.sampling.steps == 50 and scenario.sampling.scale == 7.5
    assert scenario.sampling.seed == 42


def test_the_numbers_of_the_paper_are_those_that_were_recovered():
    found = {r.method: r.values for r in load("s1").published.rows}
    assert found["STP"] == {"similarity_p95": 0.2857, "clip": 0.2976, "fid": 19.85}
    assert found["OG + STP"]["similarity_p95"] > found["STP"]["similarity_p95"]
    assert load("s2").published is None and load("s4").published is None


def test_the_recipes_are_those_of_the_papers_whose_pipelines_the_scenarios_are():
    for name, paper in {"s1": "dcr", "s2": "dcr", "s3": "wen", "s4": "wen"}.items():
        metric = load(name).metric
        assert (metric.decides.weights, metric.decides.preset) == sscd_published.PAPERS[paper]
        assert metric.cut == 0.5
        if paper == "wen":
            assert [one.hub for one in metric.text] == [clip.BACKBONES["wen"]]
    weights, preset = (SSCD.__annotations__[field] for field in ("weights", "preset"))
    assert set(get_args(weights)) == set(sscd_published.WEIGHTS)
    assert set(get_args(preset)) == set(sscd_published.PRESETS)


def test_every_baseline_and_every_later_method_stands_in_the_papers_scenarios():
    rows = {name: {c.name: c for c in load(name).methods} for name in ("s1", "s2", "s3", "s4")}
    every = {
        "constant", "prompt-optimization", "attention-masking", "random-words", "random-numbers",
        "word-repetition", "cads", "batchwise-noise", "per-sample-noise", "sharpness-aware",
        "spike-attenuation", "guard", "prompt-reanchoring",
    }  # fmt: skip
    first = {"neutral-padding", "padding-zeroed"}  # Stable Diffusion 2 pads with "!" itself
    assert set(rows["s1"]) == set(rows["s2"]) == every | {"static"}
    assert set(rows["s3"]) == set(rows["s4"]) == every | first | {"dynamic", "probe"}
    for found in rows.values():
        assert found["random-words"].strengths == ({"count": 4},)
        assert found["attention-masking"].strengths[0]["boost"] == 1.25
        shapes = [c.strengths[0] for c in load("s1").methods if c.label.startswith("weight sch")]
        assert len({s["scale"]["shape"] for s in shapes}) == 6
    # Gaps grow with the square root of the latent's size: 256 pixels against 768.
    assert rows["s1"]["batchwise-noise"].strengths[0]["radius"] == 30 * 256 / 768
    # The first level of Stable Diffusion 2 turns a difference of v into one of noise.
    alpha = NoiseSchedule.scaled_linear().grid(50)[0].alpha
    targets = [s["target"] for s in rows["s1"]["per-sample-noise"].strengths]
    assert targets == pytest.approx([v * alpha / 3 for v in (20, 15, 10, 8, 5)], abs=0.006)
    noise = [(thr - 0.01 * 192) / 3 for thr in (6, 5, 4)]
    assert [s["target"] for s in rows["s1"]["sharpness-aware"].strengths] == pytest.approx(
        noise, abs=0.006
    )
    noise = [thr - 0.05 * 128 for thr in (9, 8.2, 7.6)]
    assert [s["target"] for s in rows["s3"]["sharpness-aware"].strengths] == pytest.approx(noise)


@pytest.fixture
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs/scenarios.md").read_text(encoding="utf-8")


def structures(of):
    """A structure and those inside of it."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        inner = [structures(f.type) for f in msgspec.structs.fields(of)]
        return {of}.union(*inner)
    return set().union(*(structures(t) for t in get_args(of)))


def test_every_field_is_explained(page):
    names = {f.name for s in structures(Scenario) for f in msgspec.structs.fields(s)}
    # The embedded model's own captions are no format for others.
    names -= {"targets", "target_draws", "ordinary", "ordinary_draws"}
    assert len(names) > 40
    assert names <= set(re.findall(r"`(\w+)`", page)) | {"ordinary"}


def test_the_scenario_of_the_page_is_one(page, tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "mine.toml").write_text(example)
    assert load(tmp_path / "mine.toml").prompts.draws == 4
