"""What every registered guidance rule keeps, whichever it is."""

import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest
import torch
from reference.toy import Toy, first_noise

from sidestep import registry
from sidestep.guidance import Needs, Prediction, take
from sidestep.sampling import NoiseSchedule, sample

BATCH = 5
LEVELS = NoiseSchedule.scaled_linear().grid(25)
DIPS = [0.9, 0.8, 0.7, 0.5, 0.2]


def variants():
    """Every rule with its defaults, and each kind of `before` where it has one."""
    for entry in registry.entries("rule"):
        rule = entry.load()()
        yield pytest.param(rule, id=entry.name)
        if any(f.name == "before" for f in fields(rule)):
            for before in (0.0, 1.0, -2.0):
                yield pytest.param(replace(rule, before=before), id=f"{entry.name} {before:g}")


every_rule = pytest.mark.parametrize("rule", list(variants()))


def predictions(seed=0, dtype=torch.float32):
    """Predictions along the grid whose gaps fall and rise, (B, 2, 3)."""
    generator = torch.Generator().manual_seed(seed)
    for level in LEVELS:
        uncond = torch.randn(BATCH, 2, 3, generator=generator)
        size = torch.tensor([0.2 + abs(level.time - dip) for dip in DIPS]).view(-1, 1, 1)
        push = 1 + 0.01 * torch.rand(BATCH, 2, 3, generator=generator)
        yield Prediction(uncond.to(dtype), (uncond + size * push).to(dtype), level.time)


def steps(rule, inputs, batch=BATCH):
    state = rule.init(batch)
    for prediction in inputs:
        guided, state = rule.step(prediction, state)
        yield guided, state


@every_rule
def test_it_is_a_frozen_dataclass(rule):
    assert is_dataclass(rule)
    with pytest.raises(FrozenInstanceError):
        setattr(rule, fields(rule)[0].name, 3.0)
    assert replace(rule) == rule and hash(replace(rule)) == hash(rule)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_shapes_and_dtypes(rule, dtype):
    for prediction, (guided, _) in zip(
        predictions(dtype=dtype), steps(rule, predictions(dtype=dtype)), strict=True
    ):
        assert guided.noise.shape == prediction.uncond.shape
        assert guided.noise.dtype == dtype
        assert guided.noise.isfinite().all()
        assert guided.scale.shape == guided.on.shape == guided.fell_back.shape == (BATCH,)
        assert (guided.scale.dtype, guided.on.dtype) == (torch.float32, torch.bool)


@every_rule
def test_the_noise_is_the_formula_at_the_reported_scale(rule):
    for prediction, (guided, _) in zip(predictions(), steps(rule, predictions()), strict=True):
        scale = guided.scale.view(-1, 1, 1)
        expected = prediction.uncond + scale * (prediction.cond - prediction.uncond)
        assert torch.equal(guided.noise, expected)


@every_rule
def test_guidance_that_came_on_stays_on(rule):
    on = torch.stack([guided.on for guided, _ in steps(rule, predictions())])
    fell_back = torch.stack([guided.fell_back for guided, _ in steps(rule, predictions())])
    assert (on[1:] >= on[:-1]).all()
    assert (fell_back <= on).all()


@every_rule
def test_each_sample_is_alone(rule):
    whole = list(steps(rule, predictions()))
    for b in range(BATCH):
        singles = (
            Prediction(p.uncond[b : b + 1], p.cond[b : b + 1], p.time) for p in predictions()
        )
        for (guided, _), (alone, _) in zip(whole, steps(rule, singles, batch=1), strict=True):
            assert all(torch.equal(x[b : b + 1], y) for x, y in zip(guided, alone, strict=True))


@every_rule
def test_samples_can_leave_and_the_others_go_on_unchanged(rule):
    keep = torch.tensor([3, 1])
    state, whole = rule.init(BATCH), rule.init(BATCH)
    for j, p in enumerate(predictions()):
        guided, whole = rule.step(p, whole)
        if j < 8:
            _, state = rule.step(p, state)
            continue
        state = take(state, keep) if j == 8 else state
        part, state = rule.step(Prediction(p.uncond[keep], p.cond[keep], p.time), state)
        assert all(torch.equal(x[keep], y) for x, y in zip(guided, part, strict=True))


@every_rule
def test_a_step_changes_neither_its_state_nor_its_prediction(rule):
    inputs = list(predictions())
    *_, (_, state) = steps(rule, inputs[:9])
    prediction = inputs[9]
    before = (prediction.uncond.clone(), prediction.cond.clone())
    first, second = rule.step(prediction, state)[0], rule.step(prediction, state)[0]
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert torch.equal(prediction.uncond, before[0]) and torch.equal(prediction.cond, before[1])


@every_rule
def test_a_branch_it_does_not_need_does_not_matter(rule):
    def spare(p):
        needs = rule.needs(p.time)
        assert needs.uncond or needs.cond
        if not needs.cond:
            return Prediction(p.uncond, p.uncond, p.time)
        if not needs.uncond:
            return Prediction(p.cond, p.cond, p.time)
        return p

    both, some = steps(rule, predictions()), steps(rule, map(spare, predictions()))
    for (full, _), (spared, _) in zip(both, some, strict=True):
        assert torch.equal(full.scale, spared.scale) and torch.equal(full.on, spared.on)
        # uncond + 1 * (cond - uncond) is cond up to two roundings of numbers below 8.
        torch.testing.assert_close(full.noise, spared.noise, rtol=0, atol=2e-6)


@every_rule
def test_every_scale_must_be_a_finite_number(rule):
    scales = [f.name for f in fields(rule) if f.name in ("scale", "before", "after")]
    assert scales
    for name in scales:
        for value in (math.nan, math.inf):
            with pytest.raises(ValueError, match=f"{name} is {value}; a guidance scale must be"):
                replace(rule, **{name: value})


@every_rule
def test_a_run_counts_what_it_asked_for_and_replays(rule):
    toy = Toy.make(DIPS)
    trace = sample(toy, first_noise(BATCH), rule, NoiseSchedule.scaled_linear(), steps=25).trace
    assert torch.equal(trace.nfe, toy.count)
    asked = sum(sum(rule.needs(level.time)) for level in LEVELS)
    assert trace.nfe.tolist() == [asked] * BATCH
    again = trace.replay(rule)
    assert torch.equal(again.transition, trace.transition)
    assert torch.equal(again.fell_back, trace.fell_back)
    assert torch.equal(again.scale, trace.scale)


@every_rule
def test_what_it_needs_is_never_nothing(rule):
    for level in LEVELS:
        assert rule.needs(level.time) != Needs(uncond=False, cond=False)
