"""A watch of SDXL, SD3 and Flux in training, through the pipeline that scripts validate with."""

import json
import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from diffusers import EulerDiscreteScheduler
from reference import watched
from reference.watched import watch
from reference.watched_pipelines import NAMES, built, network_of, state, train

import sidestep
from sidestep.errors import BadModel, BadRecords
from sidestep.models.embedded import pictures

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["plain", "half around", "bf16", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_a_watched_training_is_the_same_to_the_bit(name, kind):
    """`half around`: a float32 network beside text encoders and autoencoder in half precision."""

    def run(watching):
        half = {"half around": torch.float16, "bf16": torch.bfloat16}.get(kind)
        pipe = built(name, half)
        network, backward = network_of(pipe), torch.Tensor.backward
        if kind == "bf16":
            accelerator = Accelerator(cpu=True, mixed_precision="bf16")
            network, backward = accelerator.prepare(network), accelerator.backward
        if kind == "compiled":
            network = torch.compile(network, backend="eager")
            setattr(pipe, "unet" if name == "sdxl" else "transformer", network)
            network = network_of(pipe)  # the step itself need not be compiled
        return train(name, pipe, network, watching, backward=backward)

    weights, numbers, grads, _ = run(None)
    seen = watch(log=watched.Noisy())
    others = run(seen)
    assert others[:2] == (weights, numbers)
    for one, two in zip(chain(*grads), chain(*others[2]), strict=True):
        assert torch.equal(one, two)
    assert any(g.abs().sum() > 0 for g in grads[0])
    assert [r.step for r in others[3]] == [0, 1, 2]
    # The LoRA is in the pictures: they move as it is trained, from seeds that stay.
    assert len({r.similarity_mean for r in others[3]}) > 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_shows_after_an_error_either(name, monkeypatch):
    pipe = built(name, torch.float16)
    pipe.vae.register_to_config(force_upcast=True)
    before = state(pipe)
    monkeypatch.setattr(pipe.vae.decoder.conv_out, "forward", fail)
    with pytest.raises(KeyError, match="on the way"):
        watch()(0, pipe)
    monkeypatch.undo()
    assert state(pipe)[0] is before[0]
    # Cast up and down again, weights are others in memory and the same in number.
    assert state(pipe) == before


def fail(*_):
    raise KeyError("on the way")


def test_a_file_is_of_one_scheduler_and_one_precision(tmp_path):
    file, pipe = tmp_path / "watch.jsonl", built("sdxl")
    watch(file=file)(0, pipe)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [next(iter(row)) for row in rows] == ["settings", "model", "calibration", "report"]
    assert rows[1]["model"]["sampler"].startswith("DDPMScheduler ")
    assert rows[1]["model"]["precision"] == dict.fromkeys(
        ["text_encoder_2", "unet", "vae"], "float32"
    )
    whole = file.read_bytes()
    pipe.vae.half()
    with pytest.raises(BadRecords, match=r"another precision .*'vae': 'float32'.* than now"):
        watch(file=file)(1, pipe)
    pipe.vae.float()
    own = pipe.scheduler
    pipe.scheduler = EulerDiscreteScheduler.from_config(own.config)
    with pytest.raises(BadRecords, match=r"another sampler \(DDPM.*\) than now \(Euler"):
        watch(file=file)(1, pipe)
    pipe.scheduler = own
    assert file.read_bytes() == whole
    assert watch(file=file)(1, pipe).step == 1
    seen = watch()  # without a file too
    seen(0, pipe)
    pipe.vae.half()
    with pytest.raises(BadRecords, match="another precision"):
        seen(1, pipe)


def test_prompts_that_were_embedded_beforehand_are_told_of():
    pipe = built("flux")
    pipe.text_encoder = pipe.text_encoder_2 = None
    with pytest.raises(BadModel, match="no text_encoder and no text_encoder_2, and captions"):
        watch()(0, pipe)


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_lines_watch_a_training(name, tmp_path, monkeypatch):
    """docs/watch.md word for word, on the modules of a small pipeline under the scripts' names."""
    pipe = built(name, torch.bfloat16)
    text = (ROOT / "docs/watch.md").read_text(encoding="utf-8").split("\n## SDXL")[1]
    blocks = re.findall(r"```python\n(.*?)```", text.split("\n## ")[0], flags=re.DOTALL)
    mine = next(b for b in blocks if f"import {type(pipe).__name__}" in b.replace(
        "EulerDiscreteScheduler, ", ""))  # fmt: skip
    ours = {"vae": pipe.vae, "unwrap_model": lambda module: module, "global_step": 0}
    ours |= {"args": SimpleNamespace(resolution=8), "noise_scheduler": pipe.scheduler}
    ours["unet" if name == "sdxl" else "transformer"] = network_of(pipe)
    for ending, number in (("", "one"), ("_2", "two"), ("_3", "three")):
        for part in ("text_encoder", "tokenizer"):
            ours[f"{part}_{number}"] = getattr(pipe, part + ending, None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sidestep, "CopyWatch", lambda _, **given: watch(**given | {"every": 1}))
    before = state(pipe)
    exec(mine, ours)
    exec(blocks[-1], ours)
    assert list(ours["watch"].reports) == [0]
    assert (tmp_path / "watch.jsonl").is_file()
    assert state(pipe) == before


@pytest.mark.slow
def test_copies_of_an_sdxl_that_memorizes_are_found():
    pipe = built("sdxl")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    scenes = [(p.pixels, p.caption) for p in pictures.target_pictures()[:16]]
    others = [p.pixels for p in pictures.control_pictures(4)]
    settings = {"steps": 20, "resolution": 64, "recipe": "pixels", "batch": 16}
    watching = sidestep.CopyWatch(scenes, calibration=others, every=2, **settings)
    told = train("sdxl", pipe, pipe.unet, watching, steps=3)[3]
    assert [r and r.step for r in told] == [0, None, 2]
    # docs/model-card.md: 97 % of the target captions' pictures are copies under plain guidance.
    assert told[0].rate.share > 0.8
    assert all(g.similarity > 0.8 for g in told[0].given_back)
    assert told[2].similarity_mean != told[0].similarity_mean
