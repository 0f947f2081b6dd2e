"""What sidestep.guide does around a pipeline: what it leaves, and whom it lives with."""

import copy
import gc
import pickle
import threading
import warnings

import pytest
import torch
from adapters.tiny_sd import BETAS, build, call
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)

import sidestep
from sidestep.adapters.pipeline import handle_of
from sidestep.errors import SidestepWarning

STATIC = sidestep.Static(0.5)


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

    with sidestep.guide(pipe, STATIC) as run, warnings.catch_warnings():
        warnings.simplefilter("error", SidestepWarning)
        call(pipe, callback_on_step_end=stop)
        assert len(run.trace.time) == 2


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gaps_are_computed_in_float32(pipe, dtype):
    pipe.to(dtype)
    seen = []
    # So large that the square of a difference is no number of half precision.
    pipe.unet.register_forward_hook(lambda *a: (a[2][0] * 3e3, *a[2][1:]))
    pipe.unet.register_forward_hook(lambda *a: seen.append(a[2][0].clone()))
    prompts = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    with sidestep.guide(pipe, "dynamic") as run:
        call(pipe, steps=2, prompt_embeds=prompts, negative_prompt_embeds=-prompts)
    assert all(answer.dtype == dtype for answer in seen)
    gaps = [(c.double() - u.double()).flatten(1).norm(dim=1) for u, c in (x.chunk(2) for x in seen)]
    torch.testing.assert_close(run.trace.gap.double(), torch.stack(gaps), rtol=1e-6, atol=0)


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
