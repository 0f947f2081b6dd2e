"""The embedded model through our loop and through diffusers' own pipeline."""

import json
import shutil

import numpy as np
import pytest
import torch

from sidestep.adapters.opening import open_model
from sidestep.adapters.stable_diffusion import StableDiffusion, load
from sidestep.errors import BadModel, Overflow
from sidestep.guidance import Constant
from sidestep.models import embedded
from sidestep.models.embedded import pictures
from sidestep.rng import noise
from sidestep.runs.generate import Job, make, method, sampler_of
from sidestep.sampling import sample

PROMPTS = [t.caption for t in pictures.targets()[:8]] + [f"a {c}" for c in pictures.concepts()[:8]]


@pytest.fixture(scope="module")
def model():
    return load(embedded.folder())


@pytest.mark.slow
def test_plain_guidance_equals_the_pipeline_of_diffusers(model):
    first = noise([1, 2], model.latent_shape)
    ours = sample(model.denoiser(PROMPTS[:2]), first, Constant(7.5), model.schedule, steps=20)
    theirs = model.pipe(
        PROMPTS[:2], latents=first, num_inference_steps=20, guidance_scale=7.5, output_type="latent"
    ).images
    # Float32 rounding over 20 steps at scale 7.5; latents reach about 20.
    torch.testing.assert_close(ours.latents, theirs, atol=2e-4, rtol=0)
    assert ours.trace.nfe.tolist() == [40, 40]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [method("static", time=0.7, before=-2.0), method("dynamic", before=0.0)],
    ids=["static", "dynamic"],
)
def test_the_batch_size_changes_no_picture(model, how):
    jobs = [Job(p, 0) for p in PROMPTS]
    runs = [make(model, jobs, how, steps=20, batch=b) for b in (1, 4, 16)]
    for other in runs[1:]:
        assert other.trace.transition.tolist() == runs[0].trace.transition.tolist()
        # Kernels round differently for other batch sizes; a level or two of 255 after decoding.
        difference = np.abs(other.images.astype(int) - runs[0].images.astype(int))
        assert difference.max() <= 3


@pytest.mark.parametrize("name", ["constant", "dynamic"])
def test_a_network_that_half_precision_does_not_hold_gives_no_black_pictures(name):
    """As the UNet of SD 2.1 does without upcast attention; black is no copy of anything."""
    half = open_model(embedded.folder(), precision="float16")
    with torch.no_grad():
        half.pipe.unet.mid_block.attentions[0].proj_in.weight.mul_(1e5)  # to infinity and NaN
    with pytest.raises(Overflow, match="not finite"):
        make(half, [Job("a red fox", 0)], method(name), steps=3)


def test_its_sampler_is_another_where_the_same_weights_are_sampled_otherwise():
    """A scheduler file is often mended after the first pictures; the weights are the same."""
    plain = load(embedded.folder())
    assert sampler_of(plain).startswith("DPM-Solver++ 2M, epsilon, ")
    assert sampler_of(load(embedded.folder())) == sampler_of(plain)
    others = {sampler_of(plain)}
    for change in ({"prediction_type": "v_prediction"}, {"beta_end": 0.011}):
        pipe = load(embedded.folder()).pipe
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **change)
        others.add(sampler_of(StableDiffusion(pipe)))
    pipe.vae.register_to_config(scaling_factor=0.5)
    others.add(sampler_of(StableDiffusion(pipe)))
    assert len(others) == 4


def test_a_static_rule_without_guidance_before_costs_three_quarters(model):
    made = make(model, [Job(PROMPTS[0], 0)], method("static", time=0.5, before=0.0), steps=50)
    assert made.trace.nfe.item() == 75


def test_the_model_is_small_and_in_the_format_of_diffusers():
    folder = embedded.folder()
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= 25e6
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == (
        "StableDiffusionPipeline"
    )


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadModel, match="not a folder"):
        load(tmp_path / "nothing")


def test_another_family_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BadModel, match="FluxPipeline"):
        load(tmp_path)


def test_a_truncated_weight_file_is_refused(tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(embedded.folder(), copy)
    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadModel, match="cut off"):
        load(copy)
