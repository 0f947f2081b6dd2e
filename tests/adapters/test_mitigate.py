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
from sidestep.mitigations.perturbation import EmbeddingNoise, RandomWords
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
    needs: ClassVar[frozenset] = frozenset()

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
