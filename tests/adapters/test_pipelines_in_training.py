"""Pipelines of other families in training, sampled as finished ones."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from adapters.tiny_pipelines import BUILDERS
from peft import LoraConfig, get_peft_model
from reference.watched_pipelines import NAMES, built, network_of, state

from sidestep.adapters.in_training import networks, of_pipeline, precision
from sidestep.adapters.pipelined import Pipelined
from sidestep.adapters.undisturbed import undisturbed
from sidestep.errors import BadModel
from sidestep.guidance import Constant

RUN = (Constant(5.0), ["a fox", "a red hen"], [1, 2], 3, 5.0)


def drawn(model):
    with undisturbed(list(networks(model).values())):
        return model.call(*RUN)[0]


def part(name):
    return "unet" if name == "sdxl" else "transformer"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_are_those_of_the_pipeline_in_evaluation(name, dtype):
    pipe = built(name)
    pipe.to(dtype)
    done = copy.deepcopy(pipe)
    network_of(done).eval()
    before = state(pipe)
    assert np.array_equal(drawn(of_pipeline(pipe, 8)), Pipelined(done, 8).call(*RUN)[0])
    assert state(pipe) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_halves_beside_a_whole_network_change_a_picture_little(name, half):
    mixed, whole = built(name, half), built(name)
    model = of_pipeline(mixed, 8)
    found = precision(model)
    assert found.pop(part(name)) == "float32"
    assert set(found.values()) == {str(half).removeprefix("torch.")}
    made, plain = drawn(model), drawn(of_pipeline(whole, 8))
    # A bfloat16 has 8 bits of mantissa; pictures stay alike to some levels of 255.
    assert abs(made.astype(int) - plain).mean() < 8


def test_a_network_in_half_precision_beside_whole_ones_samples():
    pipe = built("sd3")
    pipe.transformer.half()
    assert drawn(of_pipeline(pipe, 8)).shape == (2, 8, 8, 3)
    assert pipe.text_encoder.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_wrapped_networks_are_asked_beneath_and_stay_wrapped(name):
    pipe, other = built(name), built(name)
    expected = drawn(of_pipeline(pipe, 8))
    compiled = torch.compile(network_of(other), backend="eager")
    setattr(other, part(name), compiled)
    model = of_pipeline(other, 8)
    assert networks(model)[part(name)] is compiled._orig_mod
    assert np.array_equal(drawn(model), expected)
    assert getattr(other, part(name)) is compiled


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_acts_however_it_was_put_on(name):
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    plain, added, wrapped = (BUILDERS[name]() for _ in range(3))
    torch.manual_seed(5)
    network_of(added).add_adapter(config)
    torch.manual_seed(5)
    whole = get_peft_model(network_of(wrapped), config)
    setattr(wrapped, part(name), whole)
    made = drawn(of_pipeline(added, 8))
    assert np.array_equal(drawn(of_pipeline(wrapped, 8)), made)
    assert not np.array_equal(drawn(of_pipeline(plain, 8)), made)
    assert getattr(wrapped, part(name)) is whole


def test_mixed_precision_of_accelerate_acts_and_is_left_on():
    pipe = built("sd3", torch.bfloat16)
    plain = drawn(of_pipeline(pipe, 8))
    network = Accelerator(cpu=True, mixed_precision="bf16").prepare(pipe.transformer)
    forward = network.forward
    assert not np.array_equal(drawn(of_pipeline(pipe, 8)), plain)
    assert network.forward == forward


def test_an_autoencoder_that_overflows_decodes_in_full_and_is_half_again():
    pipe, seen = built("sdxl", torch.float16), []
    assert pipe.vae.config.force_upcast
    pipe.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    drawn(of_pipeline(pipe, 64))
    assert seen == [torch.float32] and pipe.vae.dtype == torch.float16


def test_what_cannot_be_sampled_is_refused():
    pipe = built("sd3")
    pipe.text_encoder_3 = None  # a Stable Diffusion 3 does without
    of_pipeline(pipe)
    pipe.text_encoder_2 = None
    with pytest.raises(BadModel, match="no text_encoder_2 and no text_encoder_3, and captions"):
        of_pipeline(pipe)
    pipe = built("sdxl")
    pipe.text_encoder_2 = None
    with pytest.raises(BadModel, match="no text_encoder and no text_encoder_2, and captions"):
        of_pipeline(pipe)
    pipe = built("flux")
    pipe.vae.to("meta")
    with pytest.raises(BadModel, match="vae on meta"):
        of_pipeline(pipe)
    pipe = built("flux")
    pipe.transformer.proj_out.weight.ds_id = 0
    with pytest.raises(BadModel, match="spread over processes"):
        of_pipeline(pipe)
    pipe = built("flux")
    pipe._all_hooks = ["a hook"]
    with pytest.raises(BadModel, match="offloads its networks"):
        of_pipeline(pipe)
