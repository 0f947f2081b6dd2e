"""The formulas of the exact denoisers, against literal loops, autograd and limits."""

import pytest
import torch
from reference import closed_form_loops

from sidestep.guidance import Constant, Static
from sidestep.guidance.base import BOTH, Needs
from sidestep.guidance.denoiser import Level
from sidestep.models.closed_form import Gaussian, Generalizer, Memorizer, SpikeAndSlab
from sidestep.sampling import NoiseSchedule, sample
from sidestep.sampling.solvers import DDIM

SCHEDULE = NoiseSchedule.scaled_linear()
N, B, SHAPE = 6, 4, (2, 2, 3)
# Sums of a dozen float64 terms in another order; the squared distance is expanded in the library,
# which costs a few more digits where the noise is small.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed):
    root = numbers(12, 12, seed=seed)
    return root @ root.T / 12


@pytest.fixture
def points():
    return numbers(N, *SHAPE, seed=1)


@pytest.fixture
def cond_weights():
    weights = numbers(B, N, seed=2).abs() * 10
    weights[:, 0] = 0  # a picture no caption names
    weights[1, 3] = 1000
    return weights


@pytest.fixture
def memorizer(points, cond_weights):
    return Memorizer(points, cond_weights, numbers(N, seed=3).abs())


@pytest.fixture
def spikes(points, cond_weights):
    variances = torch.tensor([0.5, 0.02, 0.8, 0.0, 0.02, 0.5], dtype=torch.float64)
    return SpikeAndSlab(points, variances, cond_weights, numbers(N, seed=3).abs())


@pytest.fixture
def generalizer():
    full = Gaussian.of_covariance(numbers(*SHAPE, seed=4), covariance(5))
    diagonal = Gaussian(numbers(B, *SHAPE, seed=6), numbers(B, 12, seed=7).abs())
    return Generalizer(full, diagonal)


@pytest.fixture(params=["memorizer", "spikes", "generalizer"])
def model(request):
    return request.getfixturevalue(request.param)


def latents_at(level, points, seed=8):
    """Latents that may come from any point: away from where one component takes all."""
    clean = points[torch.arange(B) % len(points)] * 0.5
    return level.alpha * clean + level.sigma * numbers(B, *SHAPE, seed=seed)


@pytest.mark.parametrize("timestep", [999, 700, 400, 100, 20])
@pytest.mark.parametrize("kind", ["memorizer", "spikes"])
def test_mixtures_equal_the_literal_formula(kind, timestep, request, points):
    model, level = request.getfixturevalue(kind), SCHEDULE.level(timestep)
    x = latents_at(level, points)
    variances = getattr(model, "variances", torch.zeros(N)).tolist()
    prediction = model(x, level, BOTH)
    for b in range(B):
        for got, weights in [
            (prediction.uncond, model.uncond_weights),
            (prediction.cond, model.cond_weights[b]),
        ]:
            want = closed_form_loops.mixture_noise(
                x[b].flatten().tolist(),
                level.alpha,
                level.sigma,
                points.flatten(1).tolist(),
                variances,
                weights.tolist(),
            )
            torch.testing.assert_close(got[b].flatten().tolist(), want, **EXACT)


@pytest.mark.parametrize("timestep", [999, 400, 20])
def test_gaussians_equal_the_literal_formula(generalizer, timestep, points):
    level = SCHEDULE.level(timestep)
    x = latents_at(level, points)
    prediction = generalizer(x, level, BOTH)
    for b in range(B):
        flat = x[b].flatten().numpy()
        uncond = closed_form_loops.gaussian_noise(
            flat, level.alpha, level.sigma, generalizer.uncond.mean.flatten(), covariance(5)
        )
        cond = closed_form_loops.gaussian_noise(
            flat,
            level.alpha,
            level.sigma,
            generalizer.cond.mean[b].flatten(),
            generalizer.cond.variances[b].diag(),
        )
        torch.testing.assert_close(prediction.uncond[b].flatten().numpy(), uncond, **EXACT)
        torch.testing.assert_close(prediction.cond[b].flatten().numpy(), cond, **EXACT)


@pytest.mark.parametrize("timestep", [999, 500, 100])
@pytest.mark.parametrize("kind", ["memorizer", "spikes"])
def test_noise_is_the_score_of_the_mixture(kind, timestep, request, points):
    model, level = request.getfixturevalue(kind), SCHEDULE.level(timestep)
    x = latents_at(level, points).requires_grad_()
    variances = getattr(model, "variances", torch.zeros(N, dtype=torch.float64))
    spread = (level.alpha**2 * variances + level.sigma**2).sqrt()[:, None]
    blurred = torch.distributions.Normal(level.alpha * points.flatten(1), spread)
    each = model.cond_weights.log() + blurred.log_prob(x.flatten(1)[:, None]).sum(-1)
    (score,) = torch.autograd.grad(torch.logsumexp(each, dim=1).sum(), x)
    cond = model(x.detach(), level, BOTH).cond
    torch.testing.assert_close(cond, -level.sigma * score, **EXACT)


def test_noise_is_the_score_of_the_gaussian(generalizer, points):
    level = SCHEDULE.level(500)
    x = latents_at(level, points).requires_grad_()
    blurred = level.alpha**2 * covariance(5) + level.sigma**2 * torch.eye(12, dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(
        level.alpha * generalizer.uncond.mean.flatten(), blurred
    )
    (score,) = torch.autograd.grad(density.log_prob(x.flatten(1)).sum(), x)
    uncond = generalizer(x.detach(), level, BOTH).uncond
    torch.testing.assert_close(uncond, -level.sigma * score, **EXACT)


def test_spikes_of_no_width_are_the_memorizer(memorizer):
    zero = torch.zeros(N, dtype=torch.float64)
    spikes = SpikeAndSlab(memorizer.points, zero, memorizer.cond_weights, memorizer.uncond_weights)
    level = SCHEDULE.level(600)
    x = numbers(B, *SHAPE)
    torch.testing.assert_close(spikes(x, level, BOTH).cond, memorizer(x, level, BOTH).cond)


def test_one_component_is_the_gaussian(points):
    spread = torch.tensor([0.3], dtype=torch.float64)
    slab = SpikeAndSlab(points[:1], spread, torch.ones(B, 1, dtype=torch.float64))
    gaussian = Gaussian(points[0], spread.expand(12))
    level = SCHEDULE.level(600)
    x = numbers(B, *SHAPE)
    torch.testing.assert_close(slab(x, level, BOTH).cond, gaussian.noise(x, level), **EXACT)


def test_at_little_noise_the_memorizer_answers_the_nearest_point(memorizer, points):
    level = Level(0, 0.0, alpha=(1 - 1e-4) ** 0.5, sigma=1e-2)
    x = 0.8 * points[:B] + 0.2 * points[1 : B + 1]  # not on a point, nearest to the first
    clean = (x - level.sigma * memorizer(x, level, BOTH).uncond) / level.alpha
    nearest = torch.cdist(x.flatten(1), level.alpha * points.flatten(1)).argmin(1)
    assert nearest.tolist() == list(range(B))
    # The next point weighs exp(-(difference of squared distances) / 2e-4), which is 0 here.
    torch.testing.assert_close(clean, points[nearest], **EXACT)


def test_at_pure_noise_the_clean_estimate_is_the_weighted_mean(memorizer, points):
    level = Level(999, 1.0, alpha=1e-9, sigma=1.0)
    x = numbers(B, *SHAPE)
    # Read from the noise, the estimate would lose nine digits to alpha; the noise itself is x
    # minus alpha times it.
    noise = memorizer(x, level, BOTH).cond
    share = memorizer.cond_weights / memorizer.cond_weights.sum(1, keepdim=True)
    mean = (share @ points.flatten(1)).view_as(x)
    torch.testing.assert_close(noise, x - level.alpha * mean, rtol=0, atol=1e-12)


def test_the_gaussian_fit_has_the_moments_of_its_points(points):
    weights = torch.tensor([1.0, 2, 0, 1, 1, 3])
    fit = Gaussian.fit(points, weights)
    repeated = torch.repeat_interleave(points.flatten(1), weights.long(), dim=0)
    torch.testing.assert_close(fit.mean.flatten(), repeated.mean(0), **EXACT)
    full = fit.basis @ fit.variances.diag() @ fit.basis.T
    torch.testing.assert_close(full, repeated.T.cov(correction=0), **EXACT)


def test_the_generalizer_maps_noise_to_pictures_by_an_affine_map(generalizer):
    a, b = numbers(B, *SHAPE, seed=9), numbers(B, *SHAPE, seed=10)
    runs = [
        sample(generalizer, x, Static(0.5, before=-2.0), SCHEDULE, steps=20, solver=DDIM()).latents
        for x in (a, b, 0.3 * a + 0.7 * b)
    ]
    torch.testing.assert_close(runs[2], 0.3 * runs[0] + 0.7 * runs[1], **EXACT)


def test_the_generalizer_samples_its_gaussian(generalizer):
    """The exact flow maps noise z along an axis of variance v to mean + sqrt(v) z."""
    first = numbers(B, *SHAPE)
    got = sample(generalizer, first, Constant(1.0), SCHEDULE, steps=999, solver=DDIM()).latents
    level = SCHEDULE.level(999)
    mean, v = generalizer.cond.mean.flatten(1), generalizer.cond.variances
    start = (level.alpha**2 * v + level.sigma**2).sqrt()
    want = mean + v.sqrt() / start * (first.flatten(1) - level.alpha * mean)
    # DDIM is of first order: 999 steps leave errors of the order of one in a thousand.
    torch.testing.assert_close(got.flatten(1), want, rtol=0, atol=2e-2)


@pytest.mark.parametrize("needs", [Needs(cond=False), Needs(uncond=False)])
def test_what_is_not_needed_is_the_other_answer_itself(model, needs):
    x, level = numbers(B, *SHAPE), SCHEDULE.level(500)
    both, one = model(x, level, BOTH), model(x, level, needs)
    assert one.uncond is one.cond
    torch.testing.assert_close(one.cond, both.cond if needs.cond else both.uncond)


def test_neither_answer_needed_is_refused(model):
    with pytest.raises(ValueError, match="ask for uncond, cond or both"):
        model(numbers(B, *SHAPE), SCHEDULE.level(500), Needs(uncond=False, cond=False))


def test_selected_rows_answer_as_in_the_batch(model):
    x, level, rows = numbers(B, *SHAPE), SCHEDULE.level(500), torch.tensor([3, 1])
    both, part = model(x, level, BOTH), model.select(rows)(x[rows], level, BOTH)
    torch.testing.assert_close(part.cond, both.cond[rows])
    torch.testing.assert_close(part.uncond, both.uncond[rows])


def test_float32_latents_get_the_float64_answer_rounded(model):
    x, level = numbers(B, *SHAPE).float(), SCHEDULE.level(500)
    got = model(x, level, BOTH).cond
    assert got.dtype == torch.float32
    assert torch.equal(got, model(x.double(), level, BOTH).cond.float())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p, w: Memorizer(p, w[:, :-1]), "cond_weights has shape"),
        (lambda p, w: Memorizer(p, w, w[0, :-1]), "uncond_weights has shape"),
        (lambda p, w: Memorizer(p, -w), "negative, infinite or nan"),
        (lambda p, w: Memorizer(p, w * torch.tensor([[1.0], [1], [0], [1]])), "zero in row 2"),
        (lambda p, w: Memorizer(p * torch.nan, w), "finite float pictures"),
        (lambda p, w: SpikeAndSlab(p, w[0, :-1], w), "one variance per point"),
        (lambda p, w: SpikeAndSlab(p, -w[0] - 1, w), "variances hold a negative"),
        (lambda p, w: Gaussian(p[0], -torch.ones(12)), "variances hold a negative"),
        (lambda p, w: Gaussian(p[0], torch.ones(12), torch.eye(11)), "one column per variance"),
        (lambda p, w: Gaussian.of_covariance(p[0], -torch.eye(12)), "none below zero"),
        (lambda p, w: Generalizer(Gaussian(p[0], w[0]), Gaussian(p[0], w[0])), "one leading axis"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(make, sentence, points, cond_weights):
    with pytest.raises(ValueError, match=sentence):
        make(points, cond_weights)


def test_latents_of_another_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"take a part of the batch with select\(\)"):
        model(numbers(B - 1, *SHAPE), SCHEDULE.level(500), BOTH)


def test_a_level_without_noise_is_refused(model):
    with pytest.raises(ValueError, match="sigma > 0"):
        model(numbers(B, *SHAPE), Level(0, 0.0, 1.0, 0.0), BOTH)
