"""What `prepare` says when nothing, something and everything is there."""

import shutil

import huggingface_hub
import pytest
from bench import stand_ins

from sidestep import registry
from sidestep.adapters import checkpoints
from sidestep.bench.loading import load
from sidestep.bench.materials import open_scenario
from sidestep.bench.prepare import prepare
from sidestep.errors import BadData, MissingExtra

PAPER = list(stand_ins.MAKE)


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch, tmp_path_factory):
    """The machine's own cache of the Hub is no part of a test."""
    cache = str(tmp_path_factory.mktemp("hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", cache)


def states(answer):
    return {item.path: item.state for item in answer.items if item.path}


def one(answer, path):
    (item,) = (item for item in answer.items if item.path == path)
    return item


@pytest.mark.parametrize("name", PAPER)
def test_of_nothing_everything_is_named_with_its_place_and_origin(name, tmp_path):
    scenario, data = load(name), tmp_path / "nothing"
    answer = prepare(scenario, data)
    assert not answer.ready
    assert states(answer) == {need.path: "missing" for need in scenario.needs}
    for need in scenario.needs:
        item = one(answer, need.path)
        assert item.says.startswith(f"put it at {data / need.path}")
        assert (item.origin, item.licence, item.what) == (need.origin, need.licence, need.what)
    assert answer.references is None and answer.prompts is None
    assert not data.exists()


@pytest.mark.parametrize("name", PAPER)
def test_of_everything_nothing_is_missing(name, tmp_path):
    stand_ins.MAKE[name](tmp_path)
    answer = prepare(stand_ins.small(name), tmp_path)
    assert answer.ready
    assert set(states(answer).values()) == {"ready"}
    prompts, references = {"s1": (4, 4), "s2": (10, 20), "s3": (3, 3), "s4": (3, 3)}[name]
    assert (answer.prompts, answer.references, answer.unreadable) == (prompts, references, ())


def test_every_need_is_missed_alone_and_none_for_another(tmp_path):
    for name in PAPER:
        for need in stand_ins.small(name).needs:
            data = tmp_path / name
            stand_ins.MAKE[name](data)
            target = data / need.path
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            answer = prepare(stand_ins.small(name), data)
            assert [p for p, s in states(answer).items() if s != "ready"] == [need.path]
            assert answer.ready == (need.optional is not None)
            shutil.rmtree(data)


def test_without_the_optional_list_it_says_what_is_lost(tmp_path):
    stand_ins.s4(tmp_path)
    (tmp_path / "memorized_laion_prompts.csv").unlink()
    answer = prepare(stand_ins.small("s4"), tmp_path)
    assert answer.ready and answer.prompts_by_form == {"unknown": 3}
    says = one(answer, "memorized_laion_prompts.csv").says
    assert says.endswith("without it verbatim and template prompts cannot be reported apart")


def test_unreadable_references_are_counted_with_their_reasons(tmp_path):
    stand_ins.s4(tmp_path)
    whole = (tmp_path / "gt_images/222/0.png").read_bytes()
    (tmp_path / "gt_images/222/0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "gt_images/111/1.png").write_bytes(b"<html>gone</html>")
    answer = prepare(stand_ins.small("s4"), tmp_path)
    assert answer.ready and answer.references == 1
    assert [u.file for u in answer.unreadable] == ["111/1.png", "222/0.png"]
    assert answer.prompts_with_reference == 1
    assert answer.to_dict()["unreadable"][0]["reason"] == "no JPEG, PNG or WEBP image"
    (tmp_path / "gt_images/111/0.png").write_bytes(b"")
    answer = prepare(stand_ins.small("s4"), tmp_path)
    assert not answer.ready
    assert "no readable image among 3" in one(answer, "gt_images").says


def test_a_list_of_another_length_than_the_published_one_is_not_it(tmp_path):
    stand_ins.s3(tmp_path, pairs=3)
    answer = prepare(stand_ins.small("s3", count=200), tmp_path)
    assert not answer.ready
    assert one(answer, "memorized_images").says == "3 prompts are there, and 200 were published"


def test_what_is_damaged_is_said_where_it_lies(tmp_path):
    stand_ins.s4(tmp_path)
    (tmp_path / "sdv1_500_memorized.jsonl").write_bytes("caf\xe9".encode("latin-1"))
    shutil.rmtree(tmp_path / "stable-diffusion-v1-4/vae")
    answer = prepare(stand_ins.small("s4"), tmp_path)
    assert "looks like Windows-1252" in one(answer, "sdv1_500_memorized.jsonl").says
    assert "has no vae; copy it again" in one(answer, "stable-diffusion-v1-4").says
    assert list(states(answer).values()).count("damaged") == 2
    (tmp_path / "checkpoint-20000/unet").mkdir(parents=True)
    says = one(prepare(load("s3"), tmp_path), "checkpoint-20000/unet").says
    assert says.endswith("has no config.json; copy it again")


@pytest.mark.parametrize(
    ("name", "gone", "need"),
    [
        ("s1", "laion_10k_random/laion_combined_captions.json", "laion_10k_random"),
        ("s2", "imagenette2/train", "imagenette2"),
        ("s2", "imagenette2/train/n03028079", "imagenette2"),
    ],
)
def test_a_part_that_is_missing_inside_of_a_folder_is_named(tmp_path, name, gone, need):
    stand_ins.MAKE[name](tmp_path)
    target = tmp_path / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    answer = prepare(stand_ins.small(name), tmp_path)
    assert not answer.ready and states(answer)[need] == "damaged"
    assert one(answer, need).says.startswith(f"{target} is not there")


def test_an_optional_list_that_is_damaged_would_stop_a_run(tmp_path):
    stand_ins.s4(tmp_path)
    (tmp_path / "memorized_laion_prompts.csv").write_text("Index,type\n111,VM\n")
    answer = prepare(stand_ins.small("s4"), tmp_path)
    assert [p for p, s in states(answer).items() if s != "ready"] == ["memorized_laion_prompts.csv"]
    assert not answer.ready
    with pytest.raises(BadData, match="there is no 'type'"):
        open_scenario(stand_ins.small("s4"), tmp_path)


def test_a_list_without_a_prompt_is_none(tmp_path):
    stand_ins.s1(tmp_path)
    (tmp_path / "laion_10k_random/laion_combined_captions.json").write_text("{}")
    answer = prepare(stand_ins.small("s1"), tmp_path)
    assert not answer.ready and one(answer, "laion_10k_random").says == "0 prompts are there"


def test_a_unet_of_its_own_replaces_a_missing_one(tmp_path):
    stand_ins.s3(tmp_path)
    shutil.rmtree(tmp_path / "stable-diffusion-v1-4/unet")
    assert prepare(stand_ins.small("s3"), tmp_path).ready


def test_a_model_in_the_cache_of_the_hub_is_there(tmp_path, monkeypatch):
    stand_ins.s4(tmp_path)
    shutil.rmtree(tmp_path / "stable-diffusion-v1-4")
    says = one(prepare(stand_ins.small("s4"), tmp_path), "stable-diffusion-v1-4").says
    assert says.endswith("or fetch it with: hf download CompVis/stable-diffusion-v1-4")
    monkeypatch.setattr(checkpoints, "cached", lambda hub: hub.startswith("CompVis/"))
    assert prepare(stand_ins.small("s4"), tmp_path).ready


def test_a_recipe_that_is_not_installed_makes_a_scenario_not_ready(tmp_path, monkeypatch):
    stand_ins.s3(tmp_path)

    def absent():
        raise MissingExtra("sscd-weights", "Install with: a line", "SSCD similarity")

    entry = registry.get("pixels")
    monkeypatch.setattr(type(entry), "load", lambda self: absent)
    answer = prepare(stand_ins.small("s3"), tmp_path)
    (item,) = (i for i in answer.items if i.state == "missing")
    assert not answer.ready and "Install with: a line" in item.says


def test_the_embedded_scenario_needs_no_data():
    answer = prepare(load("embedded"))
    assert answer.ready and answer.data is None
    with pytest.raises(BadData, match="--data DIR"):
        prepare(load("s1"))
