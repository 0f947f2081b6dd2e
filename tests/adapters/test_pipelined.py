"""Pipelines of other families, sampled through their own loop."""

import numpy as np
import pytest
import torch
from adapters import tiny_pipelines
from adapters.tiny_pipelines import BUILDERS

from sidestep.adapters import lora
from sidestep.adapters.pipeline.layouts import CHECKED, SAME_LOOP
from sidestep.adapters.pipelined import CLASSES, Pipelined
from sidestep.errors import BadModel, Overflow, SidestepError, SidestepWarning
from sidestep.guidance import Constant, Dynamic, Static

PROMPTS, SEEDS, STEPS = ["a red fox", "", "a hen"], [1, 2**62 + 5, 7], 6
SIDE = {"flux": 8}  # its default size is that of the released weights


def built(name):
    return Pipelined(BUILDERS[name](), SIDE.get(name))


@pytest.fixture(params=BUILDERS)
def model(request):
    return built(request.param)


def stock(pipe, scale):
    """What somebody gets who has never heard of this package."""
    rows = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    given = {"prompt": PROMPTS, "num_inference_steps": STEPS, "generator": rows,
             "output_type": "np"}  # fmt: skip
    if type(pipe).__name__ == "FluxPipeline":
        given |= {"true_cfg_scale": scale, "negative_prompt": [""] * len(PROMPTS)}
        given |= {"height": 8, "width": 8}
    else:
        given["guidance_scale"] = scale
    if type(pipe).__name__ == "PixArtSigmaPipeline":
        given |= {"use_resolution_binning": False, "clean_caption": False}
    return (pipe(**given).images * 255).round().astype(np.uint8)


def test_plain_guidance_gives_the_stock_pipelines_pictures(model):
    made, trace = model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)
    assert np.array_equal(made, stock(model.pipe, 5.0))
    assert trace.scale.eq(5).all() and trace.transition.tolist() == [0, 0, 0]
    assert trace.nfe.tolist() == [2 * STEPS] * 3


def test_a_rule_changes_them_and_the_trace_says_what_it_did(model):
    plain, _ = model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)
    held, trace = model.call(Static(time=0.5), PROMPTS, SEEDS, STEPS, 5.0)
    before = trace.time > 0.5
    assert trace.scale[before].eq(0).all() and trace.scale[~before].eq(5).all()
    assert (trace.nfe < 2 * STEPS).all()
    assert not np.array_equal(plain[0], held[0])
    moved, trace = model.call(Dynamic(), PROMPTS, SEEDS, STEPS, 5.0)
    assert trace.gap.isfinite().all() and moved.shape == plain.shape


def test_scale_one_is_the_conditional_prediction_alone(model):
    """A scale at which pipelines do not guide at all; released distilled weights run so."""
    made, trace = model.call(Constant(1.0), PROMPTS, SEEDS, STEPS, 1.0)
    assert trace.scale.eq(1).all()
    # Pipelines with two calls a step make the first one in full, to see that both come.
    assert (trace.nfe <= STEPS + 1).all()
    # One batch there, two predictions here: rounding may move a pixel by one.
    assert abs(made.astype(int) - stock(model.pipe, 1.0)).max() <= 1
    opened, _ = model.call(Constant(), PROMPTS, SEEDS, STEPS, 1.0)
    assert np.array_equal(opened, made)


def test_every_picture_is_its_own(model):
    """Other samples of the batch change no more than rounding: a pixel by one."""
    together, _ = model.call(Static(time=0.5), PROMPTS, SEEDS, STEPS, 5.0)
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        alone, _ = model.call(Static(time=0.5), [prompt], [seed], STEPS, 5.0)
        assert abs(alone[0].astype(int) - together[row]).max() <= 1


def test_a_longer_prompt_beside_it_changes_no_picture():
    """CogView4 pads a batch to its longest prompt, in steps of 16 tokens, and masks nothing."""
    model, long = Pipelined(tiny_pipelines.cogview4(), 16), "a red fox " * 8
    together, trace = model.call(Static(time=0.5), ["a fox", long, ""], SEEDS, 4, 5.0)
    for row, prompt in enumerate(["a fox", long, ""]):
        alone, own = model.call(Static(time=0.5), [prompt], SEEDS[row : row + 1], 4, 5.0)
        assert abs(alone[0].astype(int) - together[row]).max() <= 1  # as above; else 124
        assert own.gap[:, 0].allclose(trace.gap[:, row], rtol=1e-3, equal_nan=True)


def test_pictures_of_another_size_than_asked_are_refused():
    """Flux only warns of a size that it cannot make, and makes another."""
    model = Pipelined(BUILDERS["flux"](), 9)
    with pytest.raises(BadModel, match="made pictures of 8 x 8 pixels where 9 x 9 were asked"):
        model.call(Constant(), ["a fox"], [1], 2, 5.0)


def test_what_is_said_of_it(model):
    assert model.precision == "float32" and model.device == torch.device("cpu")
    assert model.resolution in ((64, 64), (8, 8))
    assert model.sampler.startswith(type(model.pipe.scheduler).__name__)
    before = model.fingerprint, model.sampler
    with torch.no_grad():
        next(model.pipe.vae.parameters()).add_(1)
    model.pipe.scheduler.register_to_config(num_train_timesteps=999)
    assert model.fingerprint != before[0] and model.sampler != before[1]


def test_prompts_are_counted_for_the_encoder_that_reads_most():
    # CLIP reads 20 tokens here; T5 is asked for 512 by Flux and 300 by PixArt.
    most = {name: built(name).max_tokens for name in BUILDERS}
    assert most == {"sdxl": 20, "sd3": 20, "pixart": 300, "flux": 512}
    assert built("pixart").count_tokens("a red fox") == 4  # with the end
    assert built("sdxl").count_tokens("a fox") == 4  # with start and end


def test_the_autoencoder_leaves_a_picture_nearly_as_it_was():
    from sidestep.models.embedded import pictures

    scenes = np.stack([p.pixels for p in pictures.target_pictures()[:5]])
    made = built("sdxl").reconstruct(scenes, batch=2)
    # Five pictures in batches of two; the embedded autoencoder errs by 6 of 255 on average.
    assert made.shape == scenes.shape and abs(made.astype(int) - scenes).mean() < 10
    half = np.stack([scene[::2, ::2] for scene in scenes])
    assert built("sdxl").reconstruct(half).shape == scenes.shape


def test_half_precision(model):
    plain, _ = model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)
    before = model.fingerprint
    model.pipe.to(torch.bfloat16)
    made, trace = model.call(Static(time=0.5), PROMPTS, SEEDS, STEPS, 5.0)
    assert model.precision == "bfloat16" and model.fingerprint != before
    assert made.dtype == np.uint8 and trace.gap.dtype == torch.float32
    assert made.shape == plain.shape
    assert model.reconstruct(made).shape == made.shape


def test_an_autoencoder_that_overflows_is_run_in_full_and_left_as_it_was():
    model = built("sdxl")
    assert model.pipe.vae.config.force_upcast
    model.pipe.vae.to(torch.float16)
    model.pipe.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    seen = []
    model.reconstruct(np.zeros((1, 64, 64, 3), np.uint8))
    assert seen == [torch.float32] and model.pipe.vae.dtype == torch.float16


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_what_half_precision_does_not_hold_is_no_black_picture(model, part):
    """An autoencoder that overflows gives NaN, and NaN as a pixel is black: no copy of anything."""
    weights = next(getattr(model.pipe.vae, part).parameters())
    with torch.no_grad():
        weights.fill_(torch.nan)
    with pytest.raises(Overflow, match=r"not finite .* load it in float32 or bfloat16"):
        model.reconstruct(np.zeros((1, 8, 8, 3), np.uint8))
    if part == "decoder":
        with pytest.raises(Overflow):
            model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)


def test_an_autoencoder_for_films_takes_a_picture_as_one_frame():
    from diffusers import AutoencoderKLQwenImage

    model = built("sd3")
    model.pipe.vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    ).eval()  # fmt: skip
    made = model.reconstruct(np.zeros((3, 8, 8, 3), np.uint8), batch=2)
    assert made.shape == (3, 8, 8, 3)


def test_its_classes_are_those_that_guidance_knows():
    assert set(CLASSES) <= set(CHECKED) | set(SAME_LOOP)


def test_a_class_that_cannot_be_guided_is_refused():
    from diffusers import DDPMPipeline, DDPMScheduler

    with pytest.raises(SidestepError, match="DDPMPipeline cannot be guided"):
        Pipelined(DDPMPipeline(tiny_pipelines.pixart().transformer, DDPMScheduler()))


def test_a_class_whose_loop_was_only_read_is_warned_of():
    from diffusers import PixArtAlphaPipeline

    parts = tiny_pipelines.pixart().components
    with pytest.warns(SidestepWarning, match="not run by the conformance suite"):
        Pipelined(PixArtAlphaPipeline(**parts))


def test_a_pipeline_of_no_size_asks_for_one():
    pipe = tiny_pipelines.pixart()
    pipe.transformer.register_to_config(sample_size=None)
    with pytest.raises(BadModel, match="give a resolution"):
        Pipelined(pipe)
    assert Pipelined(pipe, 16).resolution == (16, 16)


@pytest.fixture(params=["sdxl", "sd3", "flux"])
def tuned(request, tmp_path):
    """A pipeline, and the file of a LoRA on its network."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    name = request.param
    pipe = BUILDERS[name]()
    part = "unet" if name == "sdxl" else "transformer"
    network = getattr(pipe, part)
    network.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if "lora_" in key:
                weight.normal_(0, 0.3)
    layers = get_peft_model_state_dict(network)
    type(pipe).save_lora_weights(tmp_path, **{f"{part}_lora_layers": layers})
    return built(name), tmp_path


def test_a_lora_goes_on_and_off(tuned):
    model, file = tuned
    before, bare = model.fingerprint, model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)[0]
    lora.attach(model.pipe, file)
    assert model.fingerprint != before
    made, _ = model.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)
    assert not np.array_equal(made, bare)
    with model.without_lora() as base:
        assert base.fingerprint == before
        again, _ = base.call(Constant(), PROMPTS, SEEDS, STEPS, 5.0)
    assert np.array_equal(again, bare)


def test_a_lora_of_another_family_is_refused(tuned):
    model, file = tuned
    other = built("pixart")
    with pytest.raises(BadModel, match="takes no LoRA in diffusers"):
        lora.attach(other.pipe, file)
    foreign = built("sd3" if type(model.pipe).__name__ != "StableDiffusion3Pipeline" else "sdxl")
    with pytest.raises(BadModel, match="does not fit this model"):
        lora.attach(foreign.pipe, file)


def test_it_can_be_sent_to_another_process(model):
    """As Ray sends it: pickled inside of a run, never read from a file."""
    import pickle

    there = pickle.loads(pickle.dumps(model))
    here, _ = model.call(Static(time=0.5), PROMPTS, SEEDS, STEPS, 5.0)
    made, _ = there.call(Static(time=0.5), PROMPTS, SEEDS, STEPS, 5.0)
    assert np.array_equal(here, made)


def test_pictures_have_the_size_that_was_asked_for_or_it_is_said():
    with pytest.raises(ValueError, match=r"resolution is 0; .* a multiple of 1 pixels"):
        Pipelined(tiny_pipelines.sd3(), 0)
    odd = Pipelined(tiny_pipelines.flux(), 9)  # stock makes 8 and only logs it
    with pytest.raises(BadModel, match="made pictures of 8 x 8 pixels where 9 x 9"):
        odd.call(Constant(), PROMPTS[:1], SEEDS[:1], 1, 5.0)
