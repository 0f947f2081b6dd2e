"""What sidestep.guide keeps on every pipeline family and every scheduler: one suite over all."""

from functools import cache

import pytest
import torch
from adapters.families import FAMILIES, SCHEDULERS
from contract.pipeline_checks import (
    ROWS,
    SCALE,
    STEPS,
    Measured,
    error,
    guided,
    measure,
)

import sidestep
from sidestep.adapters.pipeline.layouts import CHECKED

# Leaving rows out changes the batch size, and with it how kernels round. Float64 where a random
# network amplifies that (the family says so).
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-9}
BY_NAME = {family.name: family for family in (*FAMILIES, *SCHEDULERS)}
every_family = pytest.mark.parametrize("name", [f.name for f in FAMILIES])


@cache
def measured(name: str) -> Measured:
    """Each family is run once, whatever number of tests look at it."""
    return measure(BY_NAME[name], deep=name in {f.name for f in FAMILIES})


def bound(name):
    return TOLERANCE[BY_NAME[name].dtype]


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_transition_at_once_is_the_stock_pipeline_to_the_bit(name):
    assert measured(name).immediate


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_pipeline_is_as_before_afterwards(name):
    assert measured(name).restored


@pytest.mark.parametrize("name", list(BY_NAME))
def test_without_guidance_it_is_the_pipeline_with_unconditional_inputs(name):
    assert measured(name).never < bound(name)


@every_family
def test_samples_switch_at_their_own_times(name):
    found = measured(name)
    for value in (found.static, found.conditional):
        assert value is None or value < bound(name)


@every_family
def test_the_dynamic_rule_holds_each_sample_back_alone(name):
    value = measured(name).dynamic
    assert value is None or value < bound(name)


@every_family
def test_a_batch_is_its_singles(name):
    assert measured(name).singles < 20 * bound(name)  # another batch size at every step


@pytest.mark.parametrize("name", list(BY_NAME))
def test_rows_that_are_not_needed_are_not_run(name):
    family, cost = BY_NAME[name], measured(name).cost
    if not CHECKED.get(family.pipeline) or not CHECKED[family.pipeline].skip:
        assert cost == 1.0
        return
    assert 0.7 <= cost <= 0.9


@pytest.mark.parametrize(
    "name, shift", [("sd-text2img", 0), ("dit", 0), ("z-image", 1), ("wan", 0)]
)
def test_an_explicit_scale_is_honoured_in_every_convention(name, shift):
    family = BY_NAME[name]
    pipe = family.build()
    got, trace = guided(family, pipe, sidestep.Constant(3.0))
    expected = family.call(pipe, ROWS, steps=STEPS, scale=3.0 - shift)
    assert error(got, expected) < bound(name)
    assert (trace.scale == 3.0).all()
    _, own = guided(family, pipe, sidestep.Constant())
    assert (own.scale == SCALE + shift).all()


def test_samples_of_one_batch_come_on_at_different_steps():
    spread = [n for n in (f.name for f in FAMILIES) if len(set(measured(n).transitions)) > 1]
    assert len(spread) > len(FAMILIES) / 2


def test_every_class_that_is_said_to_be_checked_is_a_family():
    assert set(CHECKED) <= {family.pipeline for family in FAMILIES}
