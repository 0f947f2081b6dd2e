"""A call of a guided pipeline with options of its own: callbacks, pictures, schedulers."""

import pytest
import torch
from adapters.families import FAMILIES
from adapters.families.base import Rows
from adapters.tiny_sd import BETAS, build, call
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers.callbacks import SDCFGCutoffCallback

import sidestep
from sidestep.errors import SidestepError, SidestepWarning

STATIC = sidestep.Static(0.5)
WAN = next(family for family in FAMILIES if family.name == "wan")


def guided(run, pipe, rule=STATIC, **options):
    """What a call gives under a rule, and the trace."""
    with sidestep.guide(pipe, rule, **options) as handle:
        return run(), handle.trace


def test_several_pictures_of_a_prompt():
    pipe, g = build(), torch.Generator().manual_seed(0)
    prompts = torch.randn(2, 3, 8, generator=g)
    rule = sidestep.Static((0.8, 0.55, 0.3, 0.1))

    def run(each, prompts):
        return call(
            pipe, num_images_per_prompt=each, prompt_embeds=prompts,
            negative_prompt_embeds=-prompts,
            generator=[torch.Generator().manual_seed(i) for i in range(4)],
        )  # fmt: skip

    several, trace = guided(lambda: run(2, prompts), pipe, rule)
    repeated, _ = guided(lambda: run(1, prompts.repeat_interleave(2, dim=0)), pipe, rule)
    assert torch.equal(several, repeated)
    assert len(set(trace.transition.tolist())) == 4


def test_a_scheduler_put_in_after_attaching():
    pipe = build()
    with sidestep.guide(pipe, STATIC) as run:
        call(pipe)
        pipe.scheduler = EulerDiscreteScheduler(**BETAS)
        swapped = call(pipe, steps=6)
    fresh = build()
    fresh.scheduler = EulerDiscreteScheduler(**BETAS)
    with sidestep.guide(fresh, STATIC) as other:
        assert torch.equal(call(fresh, steps=6), swapped)
    assert torch.equal(run.trace.time, other.trace.time)
    assert run.trace.transition.tolist() == other.trace.transition.tolist() != [-1, -1]


def test_callbacks_see_the_run_and_may_change_it():
    pipe, seen = build(), []

    def look(pipe, step, t, kwargs):
        seen.append((step, kwargs["latents"].clone()))
        if step == 1:
            return {"latents": kwargs["latents"] * 0.5}
        return {}

    changed, trace = guided(lambda: call(pipe, callback_on_step_end=look), pipe)
    assert [step for step, _ in seen] == [0, 1, 2, 3] and torch.equal(seen[-1][1], changed)
    assert not torch.equal(guided(lambda: call(pipe), pipe)[0], changed)
    assert trace.transition.tolist() == [2, 2]


def test_a_callback_that_turns_guidance_off_is_said():
    pipe = build()
    cut = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2)
    cut.tensor_inputs = ["prompt_embeds"]

    def run():
        return call(
            pipe, callback_on_step_end=cut, callback_on_step_end_tensor_inputs=["prompt_embeds"],
            batch=1,
        )  # fmt: skip

    with pytest.warns(SidestepWarning, match="turned its guidance off in 1 of 4 network calls"):
        _, trace = guided(run, pipe)
    assert len(trace.time) == 3


@pytest.mark.parametrize("at, unguided", [(0, 5), (3, 2)])
def test_a_pipeline_that_stops_asking_for_the_unconditional_call_is_said(at, unguided):
    pipe = WAN.build()
    inputs = WAN.inputs(Rows((0, 1), frozenset(), torch.float32)) | dict(WAN.settings)

    def stop(pipe, step, t, kwargs):
        pipe._guidance_scale = 1.0 if step >= at else 4.0
        return {}

    def run():
        return pipe(
            **inputs, num_inference_steps=6, guidance_scale=4.0, output_type="latent",
            callback_on_step_end=stop,
        )[0]  # fmt: skip

    with pytest.warns(SidestepWarning, match=f"turned its guidance off in {unguided} of"):
        assert guided(run, pipe)[0].isfinite().all()


def test_a_list_of_unknown_meaning_is_refused():
    pipe = build()
    tags = {"tags": ["a", "b", "c", "d"]}  # as long as the batch of both predictions
    with pytest.raises(SidestepError, match="argument 'tags' is a list as long as the batch"):
        guided(lambda: call(pipe, cross_attention_kwargs=tags), pipe)
    held, _ = guided(lambda: call(pipe, cross_attention_kwargs=tags), pipe, skip=False)
    torch.testing.assert_close(held, guided(lambda: call(pipe), pipe)[0], rtol=0, atol=1e-4)


def test_a_pipeline_made_from_a_guided_one_is_stock():
    pipe = build()
    stock = call(pipe)
    with sidestep.guide(pipe, STATIC) as run:
        other = StableDiffusionPipeline.from_pipe(pipe)
        other.set_progress_bar_config(disable=True)
        assert torch.equal(call(other), stock)
        call(pipe)
    assert run.trace.cost == 0.75
