"""Mitigations inside a stock pipeline do what they do in our own loop, and leave no trace."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

import sidestep
from sidestep.errors import SidestepError
from sidestep.guidance import Constant, Static
from sidestep.mitigations import Start, Unfit
from sidestep.mitigations.antimemorization import AntiMemorization, References
from sidestep.mitigations.perturbation import EmbeddingNoise, RandomWords
from sidestep.mitigations.reanchoring import PromptReanchoring
from sidestep.models import embedded
from sidestep.rng import noise
from sidestep.sampling.mitigated import sample_mitigated

PROMPTS = ["a fox", "a drawing of a ship"]
SEEDS = (11, 12)
STEPS = 6


@pytest.fixture(scope="module")
def model():
    return sidestep.load(embedded.folder())


@pytest.fixture
def pipe(model):
    kept = model.pipe.scheduler
    yield model.pipe
    model.pipe.scheduler = kept


def stock(pipe, prompts=PROMPTS, seeds=SEEDS, **more):
    latents = noise(list(seeds), (24, 8, 8))
    settings = {"num_inference_steps": STEPS, "guidance_scale": 5.0, "output_type": "latent"}
    return pipe(list(prompts), latents=latents, **settings | more).images


def own(model, mitigation, rule, schedule_steps=STEPS):
    start = Start(
        denoiser=model.denoiser(PROMPTS),
        x=noise(list(SEEDS), model.latent_shape),
        levels=tuple(model.schedule.grid(schedule_steps)),
        seeds=SEEDS,
        prompts=tuple(PROMPTS),
        model=model,
        scale=5.0,
    )
    return sample_mitigated([mitigation], start, rule, model.schedule).latents


@dataclass(frozen=True)
class Halfway:
    """A first noise, and a hook after each step, that are easy to follow."""

    name: ClassVar[str] = "halfway"

    def begin(self, start):
        from dataclasses import replace

        return replace(start, x=start.x / 2, after=(lambda step: step.latent * 1.01,)).done("half")


@pytest.mark.parametrize("mitigation", [RandomWords(3), EmbeddingNoise(0.5), Halfway()])
def test_the_same_latents_as_in_our_own_loop(model, pipe, mitigation):
    with sidestep.mitigate(pipe, mitigation, seed=SEEDS) as run:
        got = stock(pipe)
    expected = own(model, mitigation, Constant(5.0))
    # The pipeline's own arithmetic, in another order; latents are of size 1.
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
    assert [o.name for o in run.outcomes] == [mitigation.name.replace("halfway", "half")]
    assert (got - stock(pipe)).abs().max() > 0.05


def test_it_works_beside_a_guided_pipeline(model, pipe):
    rule = Static(time=0.7, before=0.0)
    with sidestep.guide(pipe, rule), sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=SEEDS):
        got = stock(pipe)
    expected = own(model, EmbeddingNoise(0.5), rule.with_scale(5.0))
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)


def test_a_neutral_mitigation_changes_no_bit(pipe):
    plain = stock(pipe)
    with sidestep.mitigate(pipe, EmbeddingNoise(0.0)):
        assert torch.equal(stock(pipe), plain)


def test_every_sample_has_a_seed_of_its_own(pipe):
    with sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=SEEDS):
        together = stock(pipe)
    with sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=SEEDS[1:]):
        alone = stock(pipe, PROMPTS[1:], SEEDS[1:])
    torch.testing.assert_close(together[1:], alone, atol=2e-4, rtol=0)
    with sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=[1]), pytest.raises(ValueError):
        stock(pipe)


def test_several_images_of_a_prompt_and_negative_prompts(pipe):
    settings = {"negative_prompt": ["a red ship", "a blue fox"]}
    with sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=[1, 2, 3, 4]):
        four = stock(pipe, PROMPTS, (1, 2, 3, 4), num_images_per_prompt=2, **settings)
    with sidestep.mitigate(pipe, EmbeddingNoise(0.5), seed=[3]):
        third = stock(pipe, PROMPTS[1:], (3,), negative_prompt=["a blue fox"])
    torch.testing.assert_close(four[2:3], third, atol=2e-4, rtol=0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_put_back(pipe, error):
    plain, before = stock(pipe), dict(vars(pipe))

    def stop(*_):
        raise error

    handle = sidestep.mitigate(pipe, EmbeddingNoise(0.5))
    with pytest.raises(error):
        stock(pipe, callback_on_step_end=stop)
    assert "forward" not in vars(pipe.unet) and "step" not in vars(pipe.scheduler)
    assert vars(pipe).keys() == before.keys()
    handle.remove()
    handle.remove()
    assert type(pipe) is StableDiffusionPipeline
    assert torch.equal(stock(pipe), plain)


def test_other_schedulers(pipe):
    for kind in (DDIMScheduler, EulerDiscreteScheduler):
        pipe.scheduler = kind.from_config(pipe.scheduler.config)
        plain = stock(pipe)
        with sidestep.mitigate(pipe, EmbeddingNoise(0.0)):
            assert torch.equal(stock(pipe), plain)
        with sidestep.mitigate(pipe, EmbeddingNoise(0.5)):
            assert not torch.equal(stock(pipe), plain)
    with sidestep.mitigate(pipe, Halfway()), pytest.raises(Unfit, match="scales its latents"):
        stock(pipe)


def test_what_cannot_be_mitigated_says_why(pipe):
    with pytest.raises(Unfit, match="Namespace cannot be mitigated yet"):
        sidestep.mitigate(type("Namespace", (), {})(), EmbeddingNoise())
    with pytest.raises(ValueError, match="no mitigation"):
        sidestep.mitigate(pipe)
    with sidestep.mitigate(pipe, EmbeddingNoise()):
        with pytest.raises(SidestepError, match="is mitigated already"):
            sidestep.mitigate(pipe, EmbeddingNoise())
        embeds = torch.zeros(1, 20, 128)
        with pytest.raises(Unfit, match="give it the prompts"):
            pipe(prompt_embeds=embeds, negative_prompt_embeds=embeds, num_inference_steps=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("random-words", r"the name of a mitigation; give the object, .*RandomWords\(\.\.\.\)"),
        ("random words", "is no mitigation; give objects"),
        (Static(), "Static is a rule; give it to sidestep.guide"),
        ([EmbeddingNoise()], "one argument for each"),
        (EmbeddingNoise, "is no mitigation; give objects"),
    ],
    ids=repr,
)
def test_what_is_no_mitigation_is_refused_before_the_pipeline_changes(pipe, given, sentence):
    with pytest.raises(TypeError, match=sentence):
        sidestep.mitigate(pipe, given)
    assert type(pipe) is StableDiffusionPipeline


def test_a_mitigation_given_as_a_rule_is_sent_on(pipe):
    with pytest.raises(TypeError, match="is a mitigation and no rule"):
        sidestep.guide(pipe, EmbeddingNoise())


@pytest.mark.parametrize("seed", [1.5, "ab", [1, 2.5], None])
def test_a_seed_that_is_no_whole_number_is_refused(pipe, seed):
    with pytest.raises(TypeError, match="give a whole number, or a list of one"):
        sidestep.mitigate(pipe, EmbeddingNoise(), seed=seed)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [({"clip_skip": 1}, "clip_skip"), ({"cross_attention_kwargs": {"scale": 0.5}}, "fuse_lora")],
)
def test_what_would_not_reach_the_network_is_refused(pipe, more, sentence):
    with sidestep.mitigate(pipe, EmbeddingNoise()), pytest.raises(Unfit, match=sentence):
        stock(pipe, **more)


def test_some_samples_are_re_anchored_where_each_has_its_own_negative_prompt(model, pipe):
    """The first gaps of the two prompts lie on both sides of the trigger."""
    prompts = ["a fox", "midnight owl jazz club poster"]
    plain = stock(pipe, prompts, negative_prompt=["a red ship", "a blue fox"])
    anchored = PromptReanchoring(low=0.1, high=0.5, trigger=1.2)
    with sidestep.mitigate(pipe, anchored, seed=SEEDS):
        got = stock(pipe, prompts, negative_prompt=["a red ship", "a blue fox"])
    same = (got - plain).abs().flatten(1).amax(1) < 2e-4
    assert sorted(same.tolist()) == [False, True]


def test_captions_of_references_need_no_negative_prompts(pipe):
    settings = {"negative_prompt": ["a red ship", "a blue fox"]}
    references = References(torch.rand(3, 3, 64, 64) * 2 - 1, ("a", "b", "c"))
    with sidestep.mitigate(pipe, AntiMemorization(references, threshold=-2.0)):
        assert not torch.equal(stock(pipe, **settings), stock(pipe))


# Of the latents' norm. Unit roundoffs are 2^-11 and 2^-8; measured were 0.012 and 0.11, and what
# the mitigation itself moves is a quarter.
@pytest.mark.parametrize(("dtype", "far"), [(torch.float16, 0.04), (torch.bfloat16, 0.2)])
def test_half_precision_is_the_same_run_rounded(pipe, dtype, far):
    half = StableDiffusionPipeline.from_pretrained(embedded.folder()).to(dtype)
    half.set_progress_bar_config(disable=True)
    plain = stock(pipe)
    with sidestep.mitigate(pipe, RandomWords(3), seed=SEEDS):
        exact = stock(pipe)
    with sidestep.mitigate(half, RandomWords(3), seed=SEEDS):
        got = half(
            PROMPTS,
            latents=noise(list(SEEDS), (24, 8, 8)).to(dtype),
            num_inference_steps=STEPS,
            guidance_scale=5.0,
            output_type="latent",
        ).images
    assert got.dtype == dtype
    size = exact.flatten(1).norm(dim=1)
    assert ((exact - plain).flatten(1).norm(dim=1) / size).min() > 0.2
    assert ((got.float() - exact).flatten(1).norm(dim=1) / size).max() < far
