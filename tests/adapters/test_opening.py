"""Folders of any family: which loop they run in, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from adapters import tiny_pipelines
from adapters.families import FAMILIES

from sidestep.adapters.opening import open_model
from sidestep.adapters.pipelined import Pipelined
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.errors import BadModel
from sidestep.guidance import Static
from sidestep.models import embedded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved pipeline that is no Stable Diffusion 1 or 2."""
    out = tmp_path_factory.mktemp("models") / "sd3"
    tiny_pipelines.sd3().save_pretrained(out)
    return out


def test_a_folder_says_what_it_is(folder):
    assert isinstance(open_model(embedded.folder()), StableDiffusion)
    model = open_model(folder)
    assert isinstance(model, Pipelined) and model.name == "sd3"
    assert model.fingerprint == Pipelined(tiny_pipelines.sd3()).fingerprint
    rule = Static(time=0.5)
    here, there = (
        m.call(rule, ["a fox"], [3], 4, 5.0)[0] for m in (model, Pipelined(tiny_pipelines.sd3()))
    )
    assert np.array_equal(here, there)


def test_precision_and_resolution(folder):
    half = open_model(folder, precision="bfloat16", resolution=16)
    assert half.precision == "bfloat16" and half.resolution == (16, 16)
    assert half.pipe.vae.dtype == half.pipe.text_encoder.dtype == torch.bfloat16
    own = open_model(embedded.folder(), precision="float16")
    assert own.precision == "float16" and own.resolution == (64, 64)
    with pytest.raises(ValueError, match="precision is 'fp16'; it is one of float32, float16"):
        open_model(folder, precision="fp16")


def test_another_family_is_refused(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "m")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "DDPMPipeline"}))
    with pytest.raises(BadModel, match="holds a DDPMPipeline; this takes StableDiffusionPipeline"):
        open_model(other)


def test_code_of_a_folder_is_not_run(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "m")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"tokenizer": ["own", "Own"]}))
    (other / "tokenizer/own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BadModel, match="custom code"):
        open_model(other)
    assert not (tmp_path / "ran").exists()


def test_nothing_changes_pictures_after_they_are_made(tmp_path, monkeypatch):
    """Not a safety checker, which blackens them, nor a watermark, where that is installed."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as xl
    from transformers import CLIPConfig, CLIPImageProcessor

    monkeypatch.setattr(xl, "is_invisible_watermark_available", lambda: True)
    monkeypatch.setattr(xl, "StableDiffusionXLWatermarker", object, raising=False)
    pipe = tiny_pipelines.sdxl()
    text, _ = tiny_pipelines.clip(tiny_pipelines.CLIPTextModelWithProjection)
    pipe.register_modules(text_encoder_2=text)
    pipe.save_pretrained(tmp_path / "sdxl")
    assert open_model(tmp_path / "sdxl").pipe.watermark is None

    (hunyuan,) = (f for f in FAMILIES if f.name == "hunyuan-dit")
    pipe = hunyuan.build()
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=small, vision_config=small))
    pipe.register_modules(safety_checker=checker, feature_extractor=CLIPImageProcessor())
    pipe.save_pretrained(tmp_path / "hunyuan")
    assert open_model(tmp_path / "hunyuan").pipe.safety_checker is None


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_pickled_weights_are_not_read(folder, tmp_path, part):
    """diffusers takes a pickle by itself where there are no safetensors."""
    other = shutil.copytree(folder, tmp_path / "m")
    (weights,) = (other / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    from safetensors.torch import load_file

    torch.save(load_file(weights), weights.with_name(name))
    weights.unlink()
    with pytest.raises(BadModel, match="cannot be loaded"):
        open_model(other)
