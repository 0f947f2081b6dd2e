"""What sidestep.guide says where it cannot act, or not as was asked."""

import threading
import warnings

import pytest
import torch
from adapters.families import FAMILIES
from adapters.families.base import Rows
from adapters.tiny_sd import call, unet
from diffusers import StableDiffusionPipeline

import sidestep
from sidestep.adapters.pipeline import Layout
from sidestep.adapters.pipeline.layouts import CHECKED, PERTURBED, REFUSED, SAME_LOOP
from sidestep.errors import SidestepError, SidestepWarning
from sidestep.guidance import Needs, Rule

STATIC = sidestep.Static(0.5)
BY_NAME = {family.name: family for family in FAMILIES}


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


# The last number is the scale above which the pipeline guides.
INACTIVE = [
    ("sd-text2img", "guidance_scale", 1.0, 1),
    ("sd-text2img", "guidance_scale", 0.5, 1),
    ("sd-text2img", "guidance_scale", 0.0, 1),
    ("wan", "guidance_scale", 1.0, 1),
    ("wan", "guidance_scale", 0.5, 1),
    ("flux-true-cfg", "true_cfg_scale", 1.0, 1),
    ("z-image", "guidance_scale", 0.0, 0),  # it counts from the conditional prediction
]


@pytest.mark.parametrize("name, argument, scale, least", INACTIVE)
@pytest.mark.parametrize("rule", ["static", "dynamic"])
def test_a_scale_that_is_no_guidance_changes_nothing_and_is_said_once(
    name, argument, scale, least, rule
):
    family = BY_NAME[name]
    made = family.build()

    def run():
        return family.call(made, [0, 1], steps=3, scale=scale)

    stock = run()
    with sidestep.guide(made, rule) as guide:
        with pytest.warns(SidestepWarning, match=f"raise {argument} .now {scale}. above {least},"):
            assert torch.equal(run(), stock)
        with warnings.catch_warnings():
            warnings.simplefilter("error", SidestepWarning)
            assert torch.equal(run(), stock)
        with pytest.raises(SidestepError, match="there is no trace yet"):
            guide.trace  # noqa: B018


@pytest.mark.parametrize("rule", ["static", "dynamic"])
def test_without_a_negative_prompt_there_is_nothing_to_guide(rule):
    family = BY_NAME["flux-true-cfg"]
    made = family.build()
    inputs = family.inputs(Rows((0, 1), frozenset(), torch.float32)) | dict(family.settings)
    inputs = {k: v for k, v in inputs.items() if not k.startswith("negative")}

    def run():
        return made(
            **inputs, true_cfg_scale=4.0, num_inference_steps=3, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        )[0]  # fmt: skip

    stock = run()
    with sidestep.guide(made, rule):
        with pytest.warns(SidestepWarning, match="give a negative prompt"):
            assert torch.equal(run(), stock)


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


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("rule", ["static", "dynamic"])
def test_predictions_that_are_no_numbers_are_an_error(pipe, rule, value):
    count = []

    def spoil(module, args, output):
        count.append(1)
        answer = output[0].clone()
        if len(count) == 4:  # the last step, of one sample, one of the two predictions
            answer[-1] = value
        return (answer, *output[1:])

    pipe.unet.register_forward_hook(spoil)
    with (
        sidestep.guide(pipe, rule),
        pytest.raises(SidestepError, match=r"step 3 differ .* not fin"),
    ):
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


class Alternating(Rule[None]):
    """A rule of somebody's own, which says nothing of single samples."""

    def with_scale(self, scale):
        return self

    def init(self, batch, device="cpu"):
        return None

    def needs(self, time):
        return Needs(cond=time < 0.5)

    def step(self, prediction, state):
        return sidestep.Constant(3.0 * (prediction.time < 0.5)).step(prediction, state)


def test_a_rule_of_ones_own_inherits_and_needs_to_know_nothing_of_samples(pipe):
    with sidestep.guide(pipe, Alternating()) as run:
        call(pipe)
    assert run.trace.scale.tolist() == [[0, 0], [0, 0], [3, 3], [3, 3]]
    assert run.trace.nfe.tolist() == [6, 6]


def test_times_for_another_batch_are_refused(pipe):
    with sidestep.guide(pipe, sidestep.Static((0.5, 0.6, 0.7))):
        with pytest.raises(ValueError, match="time holds 3 times for a batch of 2"):
            call(pipe)
