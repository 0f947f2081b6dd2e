import math

import numpy as np
import pytest
import torch
from contract.test_mitigations import SCHEDULE, copies, run
from reference import antimemorization_loops
from reference.captioned import Captions

from sidestep.guidance import Constant, Needs, Static
from sidestep.guidance.base import BOTH
from sidestep.mitigations import Start, Unfit
from sidestep.mitigations.antimemorization import AntiMemorization, References, pixels
from sidestep.models.closed_form import Memorizer
from sidestep.rng import noise
from sidestep.sampling import DDIM
from sidestep.sampling.mitigated import sample_mitigated

BATCH, SCALE = 4, 4.0
MODEL = Captions({"big red fox": 0})
CAPTIONS = ("big red fox", "blue ship", "lamp")
PICTURES = MODEL.pictures(MODEL.points[[0, 2, 4]])
SETTINGS = (0.2, 6.0, 2.0, 0.7)
LEVELS = tuple(SCHEDULE.grid(6))


def started(scale=SCALE, prompts=("big red fox", "tree", "red ship", "fox"), model=MODEL):
    return Start(
        denoiser=MODEL.denoiser(prompts),
        x=noise(range(BATCH), (3, 4, 4)).double(),
        levels=LEVELS,
        seeds=tuple(range(BATCH)),
        prompts=prompts,
        model=model,
        scale=scale,
    )


def flat(x):
    return x.flatten(1).numpy()


@pytest.mark.parametrize("captions", [(), CAPTIONS], ids=["no captions", "captions"])
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: str(level.timestep))
def test_the_guided_noise_is_the_literal_formula(captions, level):
    start = started()
    begun = AntiMemorization(References(PICTURES, captions), *SETTINGS).begin(start)
    got = begun.denoiser(start.x, level, BOTH)
    guided = got.uncond + SCALE * (got.cond - got.uncond)
    plain = start.denoiser(start.x, level, BOTH)
    changed = []
    for b in range(BATCH):
        named = None
        if captions:
            one = MODEL.denoiser(captions)
            noises = one(start.x[b].expand(3, -1, -1, -1), level, BOTH)
            named = flat(noises.cond)
        expected = antimemorization_loops.guided(
            flat(start.x)[b], flat(plain.uncond)[b], flat(plain.cond)[b], named,
            level.alpha, level.sigma, level.time, SCALE, list(flat(PICTURES)), SETTINGS,
        )  # fmt: skip
        # float64; the formula is divided by the scale and multiplied again.
        np.testing.assert_allclose(flat(guided)[b], expected, rtol=1e-10, atol=1e-10)
        changed.append(not torch.equal(got.cond[b], plain.cond[b]))
    extra = torch.as_tensor(got.extra).expand(BATCH).tolist()
    assert extra == ([int(c) for c in changed] if captions else [0] * BATCH)


def test_some_samples_pass_the_threshold_and_others_are_left_to_the_bit():
    start = started()
    begun = AntiMemorization(References(PICTURES, CAPTIONS), *SETTINGS).begin(start)
    level = LEVELS[0]
    got, plain = begun.denoiser(start.x, level, BOTH), started().denoiser(start.x, level, BOTH)
    passed = torch.as_tensor(got.extra).expand(BATCH).bool()
    assert passed.any() and not passed.all()
    assert torch.equal(got.cond[~passed], plain.cond[~passed])
    # Only who passed was evaluated again: 2 each, and 1 more.
    assert start.denoiser.count.tolist() == [2 + int(p) for p in passed]


def test_the_term_of_the_picture_alone_lowers_the_similarity():
    start, level = started(), LEVELS[3]
    how = AntiMemorization(References(PICTURES), -2.0, 0.0, 0.0, 1e-3)
    got = how.begin(start).denoiser(start.x, level, BOTH)
    plain = start.denoiser(start.x, level, BOTH)

    def similarity(prediction):
        wanted = prediction.uncond + SCALE * (prediction.cond - prediction.uncond)
        clean = (start.x - level.sigma * wanted) / level.alpha
        return (pixels(MODEL.pictures(clean)) @ pixels(PICTURES).T).amax(1)

    assert (similarity(got) < similarity(plain)).all()


def test_a_rule_that_withholds_guidance_withholds_the_formula():
    how = AntiMemorization(References(PICTURES, CAPTIONS), -2.0)
    held, count = run(how, range(3), rule=Static(0.5, before=0.0, after=0.0))
    plain, _ = run(None, range(3), rule=Constant(0.0))
    assert torch.equal(held.latents, plain.latents)
    assert count.tolist() == [12] * 3
    one = how.begin(started()).denoiser(started().x, LEVELS[0], Needs(uncond=False))
    assert one.cond is one.uncond


def test_pictures_that_nobody_keeps_away_from_change_nothing():
    others = References(-MODEL.pictures(MODEL.points[:1]))
    made, _ = run(AntiMemorization(others), range(8))
    plain, _ = run(None, range(8))
    assert copies(made.latents).equal(copies(plain.latents))


def test_without_a_decoder_the_latents_are_the_pictures():
    points = MODEL.points[:3]
    weights = torch.tensor([[1.0, 0.2, 0.2]] * 8, dtype=torch.float64)

    def ends(mitigations):
        x = noise(range(8), (3, 4, 4)).double()
        denoiser = Memorizer(points, weights)
        start = Start(denoiser, x, tuple(SCHEDULE.grid(12)), tuple(range(8)), scale=3.0)
        rule = Constant(3.0)
        made = sample_mitigated(mitigations, start, rule, SCHEDULE, solver=DDIM())
        return ((made.latents - points[0]).flatten(1).norm(dim=1) < 1).sum()

    how = AntiMemorization(References(points[:1]), dissimilarity=0.1)
    assert ends([how]) < ends([])


def test_references_of_another_size_are_refused():
    with pytest.raises(Unfit, match=r"pictures of shape \(3, 4, 4\) and the references are"):
        AntiMemorization(References(torch.rand(2, 3, 8, 8))).begin(started())


def test_captions_need_a_model_of_text():
    with pytest.raises(Unfit, match="no prompts or no text model"):
        AntiMemorization(References(PICTURES, CAPTIONS)).begin(started(model=None))


def test_a_scale_of_zero_is_refused():
    with pytest.raises(ValueError, match="guidance scale of the run is 0"):
        AntiMemorization(References(PICTURES)).begin(started(scale=0.0))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: References(torch.zeros(3, 4, 4)), "no pictures|give finite pictures"),
        (lambda: References(torch.zeros(0, 3, 4, 4)), "give finite pictures"),
        (lambda: References(torch.full((1, 3, 4, 4), math.nan)), "give finite pictures"),
        (lambda: References(PICTURES, ("a",)), "3 pictures came with 1 captions"),
        (lambda: AntiMemorization(References(PICTURES), math.nan), "threshold is nan"),
        (lambda: AntiMemorization("folder"), r"give References\(pictures, captions\)"),
    ],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
