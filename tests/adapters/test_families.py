"""The stock behaviour that claims about guided families are measured against, and its floor."""

import inspect

import pytest
import torch
from adapters.families import FAMILIES, SCHEDULERS
from reference.swapped_inputs import evaluations, swapped_until

ROWS, STEPS, SCALE = [0, 1, 2], 5, 4.0

# One of each layout runs in `make fast`.
QUICK = ("sd-text2img", "dit", "wan-2.2", "cosmos2-text2image")

# Largest difference over largest value. Kernels for other batch sizes round differently, and a
# random network amplifies that from step to step; measured: at most 3e-5, and 2e-14 in float64.
FLOOR = {torch.float32: 1e-4, torch.float64: 1e-12}


def marked(family):
    marks = () if family.name in QUICK else (pytest.mark.slow,)
    return pytest.param(family, marks=marks, id=family.name)


class Stock:
    """A family's pipeline and what it samples as it is."""

    def __init__(self, family):
        self.family = family
        self.pipe = family.build()
        self.pairs, self.batch = evaluations(family, self.pipe, ROWS, steps=STEPS, scale=SCALE)

    def call(self, rows=ROWS, pipe=None, scale=SCALE, **options):
        return self.family.call(pipe or self.pipe, rows, steps=STEPS, scale=scale, **options)

    def assert_close(self, result, expected):
        floor = FLOOR[self.family.dtype] * float(self.batch.abs().max())
        torch.testing.assert_close(result, expected, rtol=0, atol=floor)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[marked(f) for f in (*FAMILIES, *SCHEDULERS)])
def stock(request):
    return Stock(request.param)


def test_no_two_families_share_a_name():
    names = [family.name for family in (*FAMILIES, *SCHEDULERS)]
    assert len(set(names)) == len(names)


def test_a_family_says_what_its_pipeline_is(stock):
    assert type(stock.pipe).__name__ == stock.family.pipeline
    for name in stock.family.denoisers:
        parameters = inspect.signature(getattr(stock.pipe, name).forward).parameters
        assert set(stock.family.conditioning) <= set(parameters)


def test_a_new_pipeline_gives_the_same_bits(stock):
    before = torch.random.get_rng_state()
    again = stock.call(pipe=stock.family.build())
    assert torch.isfinite(again).all()
    assert torch.equal(again, stock.batch)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_batch_equals_its_singles(stock):
    singles = [stock.call([row]) for row in ROWS]
    stock.assert_close(torch.cat(singles), stock.batch)


def test_the_prompt_matters_at_every_step(stock):
    for uncond, cond in stock.pairs:
        gap, size = (x.double().flatten(1).norm(dim=1) for x in (cond - uncond, uncond))
        # A hundred times the floor.
        assert (gap / size).min() > 0.01


def test_rows_have_gap_curves_of_their_own(stock):
    curves = torch.stack([(c - u).double().flatten(1).norm(dim=1) for u, c in stock.pairs])
    ratio = curves / curves.mean(dim=0)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (ratio[:, one] / ratio[:, other] - 1).abs().max() > 0.05


def test_a_swapped_row_is_unconditional_and_leaves_the_others_alone(stock):
    swapped = stock.call(swap=[1])
    stock.assert_close(swapped[[0, 2]], stock.batch[[0, 2]])
    assert (swapped[1] - stock.batch[1]).abs().max() > 0.01 * stock.batch.abs().max()
    # Without a prompt there is nothing that a scale could weigh.
    other = stock.call(swap=[1], scale=SCALE + 3)
    stock.assert_close(other[1], swapped[1])


def test_swapping_inside_the_network_says_the_same(stock):
    options = {"steps": STEPS, "scale": SCALE}
    if not stock.family.conditioning:  # no inputs give three equal predictions
        with pytest.raises(ValueError, match="do not give the unconditional prediction"):
            swapped_until(stock.family, stock.pipe, ROWS, {0: 0}, **options)
        return
    every = len(stock.pairs)
    never = swapped_until(stock.family, stock.pipe, ROWS, {0: 0}, **options)
    assert torch.equal(never, stock.batch)
    always = swapped_until(
        stock.family, stock.pipe, ROWS, dict.fromkeys(range(3), every), **options
    )
    stock.assert_close(always, stock.call(swap=[0, 1, 2]))
    late = swapped_until(stock.family, stock.pipe, ROWS, {0: 2, 2: 1}, **options)
    stock.assert_close(late[1], stock.batch[1])
    for other in (stock.batch, always):
        difference = (late[[0, 2]] - other[[0, 2]]).abs().flatten(1).amax(dim=1)
        assert (difference > 1e-3 * stock.batch.abs().max()).all()


def test_a_position_outside_the_batch_is_refused():
    with pytest.raises(ValueError, match="outside a batch of 2"):
        FAMILIES[0].call(None, [0, 1], steps=2, scale=3.0, swap=[2])
