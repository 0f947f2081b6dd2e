"""What sidestep.guide does around a pipeline: what it says, what it leaves, whom it lives with."""

import copy
import gc
import pickle
import threading
import warnings

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

import sidestep
from sidestep.adapters.pipeline import Layout, handle_of
from sidestep.adapters.pipeline.layouts import CHECKED, PERTURBED, REFUSED, SAME_LOOP
from sidestep.errors import SidestepError, SidestepWarning

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STATIC = sidestep.Static(0.5)


def unet(seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2,
    ).eval()  # fmt: skip


def build():
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=1, latent_channels=4, sample_size=8
    )
    made = StableDiffusionPipeline(
        vae=vae.eval(), unet=unet(),
        scheduler=DDIMScheduler(**BETAS, steps_offset=1, clip_sample=False),
        text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def pipe():
    return build()


def call(pipe, batch=2, steps=4, scale=5.0, **more):
    rows = [torch.Generator().manual_seed(i) for i in range(batch)]
    prompts = [torch.randn(3, 8, generator=g) for g in rows]
    settings = {
        "prompt_embeds": torch.stack(prompts),
        "negative_prompt_embeds": torch.stack([-p for p in prompts]),
        "num_inference_steps": steps,
        "guidance_scale": scale,
        "generator": rows,
        "output_type": "latent",
    }
    return pipe(**settings | more).images


def test_it_needs_one_line_and_leaves_the_pipeline_as_it_was(pipe):
    kind, stock = type(pipe), call(pipe)
    hooks = (len(pipe.unet._forward_hooks), len(pipe.unet._forward_pre_hooks), dict(vars(pipe)))
    with sidestep.guide(pipe, "static") as run:
        held = call(pipe)
    assert not torch.equal(held, stock)
    assert run.trace.transition.tolist() == [2, 2] and run.trace.nfe.tolist() == [6, 6]
    assert run.trace.scale.tolist() == [[0, 0], [0, 0], [5, 5], [5, 5]]
    assert run.trace.cost == 0.75
    assert type(pipe) is kind and handle_of(pipe) is None
    assert hooks == (len(pipe.unet._forward_hooks), len(pipe.unet._forward_pre_hooks), vars(pipe))
    assert torch.equal(call(pipe), stock)


def test_a_guided_pipeline_passes_for_its_class(pipe, tmp_path):
    import inspect

    signature = inspect.signature(type(pipe).__call__)
    run = sidestep.guide(pipe, STATIC)
    assert isinstance(pipe, StableDiffusionPipeline) and "StableDiffusion" in type(pipe).__name__
    assert inspect.signature(type(pipe).__call__) == signature
    pipe.save_pretrained(tmp_path)
    assert '"StableDiffusionPipeline"' in (tmp_path / "model_index.json").read_text()
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    assert type(other) is StableDiffusionImg2ImgPipeline
    assert type(pickle.loads(pickle.dumps(pipe.scheduler))) is DDIMScheduler
    run.remove()
    run.remove()
    assert type(pipe) is StableDiffusionPipeline


def test_the_handle_need_not_be_kept(pipe):
    sidestep.guide(pipe, STATIC)
    gc.collect()
    call(pipe)
    assert handle_of(pipe).trace.transition.tolist() == [2, 2]
    handle_of(pipe).remove()


def test_shared_networks_are_put_back_when_the_pipeline_goes():
    pipe = build()
    network = pipe.unet
    sidestep.guide(pipe, STATIC)
    call(pipe)
    assert network._forward_hooks and network._forward_pre_hooks
    del pipe
    gc.collect()
    assert not network._forward_hooks and not network._forward_pre_hooks


def test_another_pipeline_with_the_same_network_is_not_guided(pipe):
    other = StableDiffusionPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    stock = call(other)
    with sidestep.guide(pipe, STATIC) as run, sidestep.guide(other, sidestep.Static(1.0)):
        assert not torch.equal(call(pipe), stock)
        assert torch.equal(call(other), stock)
    assert run.trace.transition.tolist() == [2, 2]
    assert not pipe.unet._forward_hooks


def test_an_exception_puts_everything_back_and_the_next_run_is_fresh(pipe):
    stock = call(pipe)

    def stop(pipe, step, t, kwargs):
        if step == 1:
            raise RuntimeError("stop")
        return kwargs

    with pytest.raises(RuntimeError, match="stop"), sidestep.guide(pipe, STATIC):
        call(pipe, callback_on_step_end=stop)
    assert type(pipe) is StableDiffusionPipeline and torch.equal(call(pipe), stock)
    run = sidestep.guide(pipe, STATIC)
    expected = call(pipe)
    with pytest.raises(RuntimeError, match="stop"):
        call(pipe, callback_on_step_end=stop)
    assert len(run.trace.time) == 2
    assert torch.equal(call(pipe), expected)
    run.remove()


def test_generations_do_not_mix(pipe):
    with sidestep.guide(pipe, "dynamic") as run:
        first = call(pipe, steps=6)
        call(pipe, batch=3, steps=1)
        assert run.trace.gap.shape == (1, 3)
        pipe.scheduler = EulerDiscreteScheduler(**BETAS)
        call(pipe, batch=1)
        assert run.trace.gap.shape == (4, 1)
        pipe.scheduler = DDIMScheduler(**BETAS, steps_offset=1, clip_sample=False)
        assert torch.equal(call(pipe, steps=6), first)


def test_an_interrupt_is_no_error(pipe):
    def stop(pipe, step, t, kwargs):
        pipe._interrupt = step == 1
        return kwargs

    with sidestep.guide(pipe, STATIC) as run:
        call(pipe, callback_on_step_end=stop)
        assert len(run.trace.time) == 2


def test_attaching_twice_is_a_sentence(pipe):
    with sidestep.guide(pipe, STATIC) as run:
        with pytest.raises(SidestepError, match="is guided already"):
            sidestep.guide(pipe, "dynamic")
        call(pipe)
        assert run.trace.transition.tolist() == [2, 2]


def test_a_replaced_network_is_noticed(pipe):
    with sidestep.guide(pipe, STATIC) as run:
        call(pipe)
        old, pipe.unet = pipe.unet, unet(1)
        with pytest.raises(SidestepError, match=r"pipe\.unet was replaced"):
            call(pipe)
        pipe.unet = old
        run.trace  # noqa: B018
    with pytest.raises(SidestepError, match=r"pipe\.unet was replaced"):
        with sidestep.guide(pipe, STATIC):
            pipe.unet = unet(1)
    assert not old._forward_hooks and type(pipe) is StableDiffusionPipeline
    with sidestep.guide(pipe, STATIC, strict=False):
        pipe.unet = unet(2)
        with pytest.warns(SidestepWarning, match=r"pipe\.unet was replaced"):
            call(pipe)


def test_a_copied_network_is_not_guided_and_runs_on_its_own_weights(pipe):
    with sidestep.guide(pipe, STATIC):
        copied = copy.deepcopy(pipe.unet)
        doubled = copy.deepcopy(pipe)
        call(pipe)
    assert type(doubled) is StableDiffusionPipeline
    x, hidden = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
        assert copied(x, 1, hidden).sample.abs().max() == 0
        assert pipe.unet(x, 1, hidden).sample.abs().max() > 0


def test_scale_one_changes_nothing_and_is_said_once(pipe):
    stock = call(pipe, scale=1.0)
    with sidestep.guide(pipe, STATIC) as run:
        with pytest.warns(SidestepWarning, match="raise guidance_scale .now 1.0. above 1"):
            assert torch.equal(call(pipe, scale=1.0), stock)
        with warnings.catch_warnings():
            warnings.simplefilter("error", SidestepWarning)
            call(pipe, scale=1.0)
        with pytest.raises(SidestepError, match="there is no trace yet"):
            run.trace  # noqa: B018


def test_a_block_without_a_call_is_said(pipe):
    with pytest.warns(SidestepWarning, match="was not called while it was guided"):
        with sidestep.guide(pipe, STATIC):
            pass


def test_a_rule_that_never_opened_is_said(pipe):
    with sidestep.guide(pipe, sidestep.Static((0.5, 0.0))) as run:
        with pytest.warns(SidestepWarning, match=r"never came on for samples \[1\] of 2"):
            call(pipe)
    assert run.trace.transition.tolist() == [2, -1]
    assert run.trace.nfe.tolist() == [6, 4]


def test_predictions_that_are_no_numbers_are_an_error(pipe):
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(torch.nan)
    with sidestep.guide(pipe, "dynamic"), pytest.raises(SidestepError, match="not finite"):
        call(pipe)


def test_two_calls_at_once_are_refused(pipe):
    seen = []

    def inner(pipe, step, t, kwargs):
        def again():
            try:
                call(pipe)
            except SidestepError as error:
                seen.append(str(error))

        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
        return kwargs

    with sidestep.guide(pipe, STATIC):
        call(pipe, steps=2, callback_on_step_end=inner)
    assert len(seen) == 2 and "in the middle of a call" in seen[0]


def test_threads_with_pipelines_of_their_own_share_a_network(pipe):
    alone = {}
    for time in (0.3, 0.7):
        with sidestep.guide(pipe, sidestep.Static(time)):
            alone[time] = call(pipe)
    made, errors = {}, []

    def work(time):
        try:
            own = StableDiffusionPipeline(
                **pipe.components
                | {"scheduler": DDIMScheduler(**BETAS, steps_offset=1, clip_sample=False)},
                requires_safety_checker=False,
            )
            own.set_progress_bar_config(disable=True)
            with sidestep.guide(own, sidestep.Static(time)):
                made[time] = call(own)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(time,)) for time in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(torch.equal(made[time], alone[time]) for time in alone)


def test_half_precision_gaps_are_float32(pipe):
    pipe.to(torch.bfloat16)
    with sidestep.guide(pipe, "dynamic") as run:
        call(
            pipe, steps=2, prompt_embeds=torch.randn(2, 3, 8).bfloat16(),
            negative_prompt_embeds=torch.randn(2, 3, 8).bfloat16(),
        )  # fmt: skip
    assert run.trace.gap.dtype == torch.float32 and run.trace.gap.isfinite().all()


class Replayed:
    """What accelerate does to a network at every call of a pipeline: its forward on and off."""

    def __init__(self, module):
        from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

        self.on = lambda: add_hook_to_module(module, ModelHook())
        self.off = lambda: remove_hook_from_module(module, recurse=True)


@pytest.mark.parametrize("late", [False, True])
def test_it_outlives_hooks_that_accelerate_puts_on_again(pipe, late):
    with sidestep.guide(pipe, STATIC):
        expected = call(pipe)
    offload = Replayed(pipe.unet)
    if not late:
        offload.on()
    with sidestep.guide(pipe, STATIC) as run:
        for _ in range(3):
            offload.off()
            offload.on()
            assert torch.equal(call(pipe), expected)
            assert run.trace.nfe.tolist() == [6, 6]
    offload.off()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_class_that_cannot_be_guided_is_refused_with_its_reason(name):
    kind = type(name, (), {})
    with pytest.raises(SidestepError, match=f"{name} cannot be guided: .*; "):
        sidestep.guide(kind(), STATIC)


def test_an_unknown_class_is_refused_unless_its_layout_is_given(pipe):
    kind = type("TheirPipeline", (), {"__call__": None})
    with pytest.raises(SidestepError, match="not a pipeline that sidestep"):
        sidestep.guide(kind(), STATIC)
    with pytest.raises(SidestepError, match="takes a loaded diffusers pipeline"):
        sidestep.guide(kind(), STATIC, layout=Layout())
    with pytest.raises(ValueError, match="'batched' or 'separate'"):
        Layout(calls="both")


def test_a_subclass_has_the_layout_of_its_base(pipe):
    pipe.__class__ = type("Mine", (StableDiffusionPipeline,), {})
    with sidestep.guide(pipe, STATIC) as run:
        call(pipe)
    assert run.trace.cost == 0.75 and type(pipe).__name__ == "Mine"


def test_the_tables_name_classes_of_diffusers():
    import diffusers

    gone = {n for n in (*CHECKED, *SAME_LOOP, *PERTURBED) if not hasattr(diffusers, n)}
    assert not gone
    assert not set(REFUSED) & {*CHECKED, *SAME_LOOP, *PERTURBED}
    assert set(SAME_LOOP.values()) <= set(CHECKED)


@pytest.mark.parametrize("rule", [sidestep.Dynamic, 3, None])
def test_what_is_no_rule_is_refused(pipe, rule):
    with pytest.raises(TypeError, match="give a name such as 'dynamic'"):
        sidestep.guide(pipe, rule)
    with pytest.raises(SidestepError, match="did you mean dynamic"):
        sidestep.guide(pipe, "dynamik")


def test_times_for_another_batch_are_refused(pipe):
    with sidestep.guide(pipe, sidestep.Static((0.5, 0.6, 0.7))):
        with pytest.raises(ValueError, match="time holds 3 times for a batch of 2"):
            call(pipe)


def test_rows_are_left_out_only_where_each_is_alone(pipe):
    from diffusers.models.attention_processor import AttnProcessor

    class Theirs(AttnProcessor):
        """An attention processor of another extension, which may count on the whole batch."""

    def cost():
        with sidestep.guide(pipe, STATIC) as run:
            call(pipe)
        return run.trace.cost

    assert cost() == 0.75
    pipe.unet.set_attn_processor(Theirs())
    assert cost() == 1.0
    pipe.unet.set_attn_processor(AttnProcessor())
    assert cost() == 0.75
    block = pipe.unet.down_blocks[0]
    own = block.forward
    block.forward = lambda *args, **kwargs: own(*args, **kwargs)  # as DeepCache does
    assert cost() == 1.0
    del block.forward
    with sidestep.guide(pipe, STATIC, skip=False) as run:
        call(pipe)
    assert run.trace.cost == 1.0


def test_skip_layer_guidance_of_sd3_adds_nothing_before_the_transition():
    from benchmarks.pipelines import sd3

    pipe, inputs = sd3()
    pipe.set_progress_bar_config(disable=True)

    def run(**more):
        generator = [torch.Generator().manual_seed(i) for i in range(2)]
        return pipe(
            **inputs | more, num_inference_steps=5, generator=generator, output_type="latent"
        ).images

    skipping = {"skip_guidance_layers": [0], "skip_layer_guidance_stop": 1.0}
    plain = run(**skipping)
    swapped = {name.removeprefix("negative_"): v for name, v in inputs.items() if "neg" in name}
    with sidestep.guide(pipe, sidestep.Constant(0.0)):
        held = run(**skipping)
    # Float32 of a batch of 4 against one of 2; the third prediction alone moves it by far more.
    assert (held - run(**swapped)).abs().max() < 1e-4 * held.abs().max()
    with sidestep.guide(pipe, sidestep.Static(1.0)):
        assert torch.equal(run(**skipping), plain)
