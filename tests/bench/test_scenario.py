"""Scenario files: what they may say, and what is answered to the rest."""

import re
from importlib.resources import files
from typing import get_args

import msgspec
import pytest

from sidestep.bench.scenario import Scenario, load, names
from sidestep.errors import BadScenario


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
        ("steps = 50", 'steps = "50"', r"sampling\.steps: expected int, got str"),
        ("steps = 50\n", "", r"sampling: the field 'steps' is missing"),
        ("steps = 50", "steps = 0", r"sampling\.steps: expected int >= 1"),
        ('"pairs"', '"pair"', r"prompts\.format is 'pair'; did you mean pairs\?"),
        ('"stable-diffusion"', '"sd"', r"model\.kind is 'sd'; known are embedded, stable-diff"),
        ("dpm-solver++2m", "ddim", r"sampling\.solver is 'ddim'; known are dpm-solver\+\+2m"),
        ('"medium"', '"hgih"', r"published\.rows\[0\]\.confidence is 'hgih'; did you mean high"),
        ('"constant"', '"constnat"', r"no rule named 'constnat'; did you mean constant"),
        ('decides = "sscd"', 'decides = "ssdc"', r"no similarity named 'ssdc'; did you mean sscd"),
        ('label = "DTP"', 'label = "OG + DTP"', r"the label 'OG \+ DTP' comes twice"),
        ("clip = 0.3105", "clop = 0.3105", r"recipes does not say what measured 'clop'"),
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
    labels = {m.label for m in scenario.methods} | {"Wen et al.", "Ren et al."}
    rows = scenario.published.rows if scenario.published else ()
    assert {row.method for row in rows} <= labels
    assert scenario.sampling.steps == 50 and scenario.sampling.scale == 7.5
    assert scenario.sampling.seed == 42


def test_the_numbers_of_the_paper_are_those_that_were_recovered():
    found = {r.method: r.values for r in load("s1").published.rows}
    assert found["STP"] == {"similarity_p95": 0.2857, "clip": 0.2976, "fid": 19.85}
    assert found["OG + STP"]["similarity_p95"] > found["STP"]["similarity_p95"]
    assert load("s2").published is None and load("s4").published is None


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
