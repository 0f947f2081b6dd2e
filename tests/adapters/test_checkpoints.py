"""A Stable Diffusion from a folder, from the Hub's cache, or with another UNet in its place."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from adapters import tiny_sd
from bench import stand_ins

from sidestep.adapters import checkpoints
from sidestep.adapters.stable_diffusion import load
from sidestep.errors import BadModel

HUB = "someone/stable-diffusion"
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    stand_ins.model(path)
    return path


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A Hub that cannot be reached, whose local cache has one model."""
    cache = tmp_path / "hub"
    repository = cache / ("models--" + HUB.replace("/", "--"))
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_a_hub_id_is_read_from_the_cache_and_is_the_model_of_the_folder(folder, hub):
    assert checkpoints.cached(HUB)
    assert load(HUB).fingerprint == load(folder).fingerprint


def test_a_hub_that_cannot_be_reached_is_a_sentence(hub):
    assert not checkpoints.cached("nobody/nothing")
    with pytest.raises(BadModel, match=r"nobody/nothing is no folder here, and the Hub did not"):
        load("nobody/nothing")


def test_another_family_on_the_hub_is_refused_before_it_is_loaded(hub, monkeypatch):
    (index,) = hub.rglob("model_index.json")
    index.write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(BadModel, match="FluxPipeline"):
        load(HUB)


def test_another_unet_takes_the_place_of_the_pipelines_and_changes_the_fingerprint(
    folder, tmp_path
):
    unet = tiny_sd.unet(seed=5)
    unet.save_pretrained(tmp_path / "unet")
    model = load(folder, unet=tmp_path / "unet")
    torch.testing.assert_close(model.pipe.unet.state_dict(), unet.state_dict(), atol=0, rtol=0)
    plain = load(folder)
    assert plain.fingerprint != model.fingerprint
    vae = [m.pipe.vae.state_dict() for m in (plain, model)]
    torch.testing.assert_close(vae[0], vae[1], atol=0, rtol=0)


def test_a_unet_for_other_embeddings_is_refused(folder, tmp_path):
    wide = tiny_sd.UNet2DConditionModel.from_config(tiny_sd.unet().config, cross_attention_dim=16)
    wide.save_pretrained(tmp_path / "unet")
    with pytest.raises(BadModel, match=r"prompt embeddings 16 and the rest of the model 8"):
        load(folder, unet=tmp_path / "unet")


def test_a_unet_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(BadModel, match=r"nothing cannot be loaded"):
        load(folder, unet=tmp_path / "nothing")


def test_the_resolution_is_that_of_the_pictures(folder):
    model = load(folder, resolution=12)
    assert model.latent_shape == (4, 12, 12)
    assert model.decode(torch.zeros(2, *model.latent_shape)).shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match="resolution is 0"):
        load(folder, resolution=0)


def test_a_missing_part_of_a_folder_is_named(folder, tmp_path):
    assert checkpoints.missing_parts(folder) == []
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "vae")
    shutil.rmtree(copy / "tokenizer")
    assert checkpoints.missing_parts(copy) == ["tokenizer", "vae"]
    (copy / "model_index.json").write_text("{")
    assert checkpoints.missing_parts(copy) == ["model_index.json"]
