"""Mitigations of text and attention on a Stable Diffusion with random weights."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from adapters import tiny_sd
from contract.mitigation_cases import CASES
from diffusers import DPMSolverMultistepScheduler

import sidestep
from sidestep.adapters.attention import EditedAttention
from sidestep.adapters.stable_diffusion import StableDiffusion
from sidestep.guidance import Constant, Static
from sidestep.guidance.base import BOTH
from sidestep.mitigations import Start, Unfit
from sidestep.mitigations.cads import CADS
from sidestep.mitigations.clip_padding import NeutralPadding, PaddingZeroed
from sidestep.mitigations.cross_attention import AttentionMasking
from sidestep.mitigations.guard import Guard, SpikeAttenuation
from sidestep.mitigations.prompt_optimization import PromptOptimization
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.mitigations.rewording import Rewording
from sidestep.rng import noise
from sidestep.sampling.mitigated import sample_mitigated

PROMPTS = ("a red fox", "a ship and a lamp")
TOUCHING = [AttentionMasking(), SpikeAttenuation(), Guard()]  # the network's own attention
MITIGATIONS = [
    CADS(low=0.2),
    PromptOptimization(target=0.0, steps=2),
    *TOUCHING,
    NeutralPadding(),
    PaddingZeroed(),
    Rewording(((PROMPTS[0], "two blue owls"),)),
    PromptReanchoring(low=0.01, high=0.1, trigger=0.0),
]
each = pytest.mark.parametrize("mitigation", MITIGATIONS, ids=lambda m: m.name)


@pytest.fixture(scope="module")
def model():
    return StableDiffusion(tiny_sd.build_with_text())


def started(model, prompts=PROMPTS, steps=3):
    seeds = list(range(len(prompts)))
    x, levels = noise(seeds, model.latent_shape), tuple(model.schedule.grid(steps))
    return Start(model.denoiser(prompts), x, levels, tuple(seeds), tuple(prompts), model)


@each
@pytest.mark.parametrize("rule", [Constant(7.5), Static(time=0.5, before=1.0)], ids=["cfg", "cond"])
def test_it_runs_changes_the_picture_and_each_sample_is_alone(model, mitigation, rule):
    plain = sample_mitigated([], started(model), rule, model.schedule)
    made = sample_mitigated([mitigation], started(model), rule, model.schedule)
    assert made.latents.isfinite().all()
    assert not torch.equal(made.latents[0], plain.latents[0])
    alone = sample_mitigated([mitigation], started(model, PROMPTS[:1]), rule, model.schedule)
    # Float32 kernels round differently for other batch sizes; guidance multiplies that.
    torch.testing.assert_close(made.latents[:1], alone.latents, atol=2e-4, rtol=2e-4)
    assert made.trace.nfe[0] == alone.trace.nfe[0]


@each
def test_gradients_are_left_off_and_no_parameter_has_one(model, mitigation):
    sample_mitigated([mitigation], started(model), Constant(7.5), model.schedule)
    assert all(p.grad is None for p in model.pipe.unet.parameters())


@each
def test_its_neutral_strength_is_plain_guidance_to_the_bit(model, mitigation):
    plain = sample_mitigated([], started(model), Constant(7.5), model.schedule)
    neutral = CASES[mitigation.name].neutral
    made = sample_mitigated([neutral], started(model), Constant(7.5), model.schedule)
    assert torch.equal(made.latents, plain.latents)


@pytest.mark.parametrize("mitigation", TOUCHING, ids=lambda m: m.name)
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_network_is_as_it_was_after_success_error_and_interrupt(model, mitigation, error):
    start, unet = started(model), model.pipe.unet
    denoiser = mitigation.begin(start).denoiser
    before, edited = dict(unet.attn_processors), []

    def stop(*_):
        if any(isinstance(p, EditedAttention) for p in unet.attn_processors.values()):
            edited.append(True)
            if error is not None:
                raise error

    hook = unet.mid_block.register_forward_hook(stop)
    try:
        with pytest.raises(error) if error else nullcontext():
            denoiser(start.x, start.levels[0], BOTH)
    finally:
        hook.remove()
    assert edited == [True]  # once, in the middle of a call
    assert all(unet.attn_processors[name] is p for name, p in before.items())


def test_the_words_do_not_feel_the_padding(model):
    start = started(model)
    made = NeutralPadding(end=1.0).begin(start).text
    words = torch.arange(start.text.cond.shape[1]) < start.text.length[:, None]
    assert torch.equal(made.cond[words], start.text.cond[words])
    again = model.embed(PROMPTS, pad="!")
    # The encoder is causal: embeddings of words and end are the same with other padding.
    torch.testing.assert_close(again.cond[words], start.text.cond[words])
    assert not torch.equal(made.cond[~words], start.text.cond[~words])


@pytest.mark.parametrize("mitigation", [NeutralPadding(), PaddingZeroed()])
def test_a_tokenizer_that_pads_otherwise_is_refused(mitigation):
    pipe = tiny_sd.build_with_text()
    pipe.tokenizer.pad_token = "!"  # as Stable Diffusion 2 has it
    other = StableDiffusion(pipe)
    assert not other.pads_with_end
    with pytest.raises(Unfit, match="does not pad prompts with its end token"):
        mitigation.begin(started(other))


def test_a_network_without_cross_attention_to_text_is_refused(model):
    class Plain(torch.nn.Linear):
        def __init__(self):
            super().__init__(1, 1)

    start = started(model)
    denoiser = replace(SpikeAttenuation().begin(start).denoiser, module=Plain())
    with pytest.raises(Unfit, match="Plain has no cross-attention"):
        denoiser(start.x, start.levels[0], BOTH)


@each
def test_a_stock_pipeline_gives_the_latents_of_our_own_loop(model, mitigation):
    pipe, start = model.pipe, started(model, steps=4)
    kept, pipe.scheduler = (
        pipe.scheduler,
        DPMSolverMultistepScheduler(**tiny_sd.BETAS, steps_offset=1),
    )
    try:
        with sidestep.mitigate(pipe, mitigation, seed=start.seeds) as run:
            got = pipe(
                list(PROMPTS), latents=start.x, num_inference_steps=4, guidance_scale=7.5,
                output_type="latent",
            ).images  # fmt: skip
    finally:
        pipe.scheduler = kept
    made = sample_mitigated([mitigation], start, Constant(7.5), model.schedule)
    # The pipeline's own arithmetic, in another order.
    torch.testing.assert_close(got, made.latents, atol=5e-4, rtol=5e-4)
    for one, other in zip(run.outcomes[0][1:], made.outcomes[0][1:], strict=True):
        assert torch.equal(one, other)


def test_a_pipeline_without_guidance_has_a_gap_all_the_same(model):
    with sidestep.mitigate(model.pipe, PromptOptimization(target=0.0, steps=1)) as run:
        model.pipe(list(PROMPTS), num_inference_steps=2, guidance_scale=1.0, output_type="latent")
    assert run.outcomes[0].reached.tolist() == [False, False]
