"""Modules of a training, wrapped or not, are the Stable Diffusion that they will be."""

import pytest
import torch
from accelerate import Accelerator
from adapters.tiny_sd import build_with_text
from diffusers import DDPMScheduler
from peft import LoraConfig, get_peft_model

from sidestep.adapters.in_training import in_training, of_pipeline
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.adapters.undisturbed import undisturbed
from sidestep.errors import BadModel
from sidestep.runs.generate import Job, make, method

JOBS = [Job("a fox", 0), Job("a ship", 1)]


def modules(pipe, **other):
    names = ("unet", "text_encoder", "vae", "tokenizer", "scheduler")
    return {name: getattr(pipe, name) for name in names} | other


def drawn(model):
    with undisturbed((model.pipe.unet, model.pipe.text_encoder, model.pipe.vae)):
        return make(model, JOBS, method("constant"), steps=3).images


def lora(unet):
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    torch.manual_seed(3)
    return get_peft_model(unet, config)


def test_pictures_are_those_of_the_pipeline():
    pipe = build_with_text()
    expected = drawn(StableDiffusion(pipe))
    training = DDPMScheduler.from_config(pipe.scheduler.config)
    pipe.unet.train()
    assert (drawn(in_training(**modules(pipe, scheduler=training))) == expected).all()
    assert (drawn(of_pipeline(pipe)) == expected).all()
    assert in_training(**modules(pipe), resolution=16).latent_shape == (4, 16, 16)


def test_wrapped_modules_are_asked_beneath_and_stay_wrapped():
    pipe = build_with_text()
    expected = drawn(in_training(**modules(pipe)))
    compiled = torch.compile(pipe.unet, backend="eager")
    model = in_training(**modules(pipe, unet=compiled))
    assert model.pipe.unet is pipe.unet
    assert (drawn(model) == expected).all()


def test_mixed_precision_of_accelerate_acts_and_is_left_on():
    pipe = build_with_text()
    plain = drawn(in_training(**modules(pipe)))
    unet = Accelerator(cpu=True, mixed_precision="bf16").prepare(pipe.unet)
    forward = unet.forward
    made = drawn(in_training(**modules(pipe, unet=unet)))
    assert unet.forward == forward
    assert (made != plain).any()
    # bfloat16 has 8 bits of mantissa; pictures stay alike to some levels of 255.
    assert abs(made.astype(int) - plain).mean() < 8


def test_half_precision_weights_sample():
    pipe = build_with_text()
    for name in ("unet", "vae", "text_encoder"):
        getattr(pipe, name).to(torch.bfloat16)
    made = drawn(in_training(**modules(pipe)))
    assert made.shape == (2, 8, 8, 3)
    assert {p.dtype for p in pipe.unet.parameters()} == {torch.bfloat16}


def test_adapters_of_peft_act_however_they_were_put_on():
    pipe, other = build_with_text(), build_with_text()
    plain = drawn(in_training(**modules(pipe)))
    wrapped = drawn(in_training(**modules(pipe, unet=lora(pipe.unet))))
    assert (wrapped != plain).any()
    torch.manual_seed(3)
    other.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    assert (drawn(in_training(**modules(other))) == wrapped).all()


def test_what_one_process_cannot_sample_is_refused():
    pipe = build_with_text()
    with pytest.raises(BadModel, match="vae on meta"):
        in_training(**modules(pipe, vae=build_with_text().vae.to("meta")))
    next(pipe.unet.parameters()).ds_id = 0
    with pytest.raises(BadModel, match="spread over processes"):
        in_training(**modules(pipe))
    with pytest.raises(BadModel, match="unet came as str"):
        in_training(**modules(pipe, unet="unet"))
    with pytest.raises(BadModel, match="object is not known here"):
        of_pipeline(object())
