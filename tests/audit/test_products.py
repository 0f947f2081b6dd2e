"""Products are off by no more than their bound, and the bound is not idle."""

import numpy as np
import pytest
import torch

from sidestep.audit.products import Rounded, error, products, reach

KINDS = (torch.bfloat16, torch.float32)


def rows(n, seed):
    # Of one sign, because there rounding errors add up.
    made = np.abs(np.random.default_rng(seed).standard_normal((n, 512)))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def exact(a, b):
    return a.astype(np.float64) @ b.T.astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_products_keep_to_the_bound(kind):
    a, b = rows(50, 0).astype(np.float32), rows(500, 1)
    first, second = Rounded.of(a, kind), Rounded.of(b, kind)
    off = np.abs(products(first, second).double().numpy() - exact(a, b)).max(axis=1)
    bound = error(first, second)
    assert (off <= bound).all()
    # The bound allows for a worse order of summing than libraries have: see the next test.
    assert (off > bound / (20 if kind == torch.bfloat16 else 2000)).all()


def test_the_bound_holds_for_the_worst_order_of_summing():
    a, b = rows(50, 0).astype(np.float32), rows(500, 1)
    summed = np.zeros((50, 500), np.float32)
    for column in range(512):  # one after the other
        summed += a[:, column, None] * b.astype(np.float32)[None, :, column]
    off = np.abs(summed - exact(a, b)).max(axis=1)
    bound = error(Rounded.of(a, torch.float32), Rounded.of(b, torch.float32))
    assert (off <= bound).all() and (off > bound / 1000).all()


def test_rounding_measures_what_it_takes_and_leaves_its_input_alone():
    given = rows(20, 0).astype(np.float32)
    kept = given.copy()
    made = Rounded.of(given, torch.bfloat16)
    np.testing.assert_array_equal(given, kept)
    taken = np.linalg.norm(given.astype(np.float64) - made.values.double().numpy(), axis=1)
    np.testing.assert_allclose(made.lost, taken, rtol=1e-5)  # sums of 512 squares in float32
    assert (Rounded.of(given, torch.float32).lost == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_reaching_a_bound_is_comparing_numbers_whatever_their_sign(kind):
    values = torch.tensor([-2.0, -1e-3, -0.0, 0.0, 1e-3, 0.2, 1.5]).to(kind)
    scores = values.repeat(8, 1)
    for some in ([1e-3, 0.2, 1.5, 1.6, 2e-3, 0.1, 3, 1e-9], [-3, -2, -1e-3, 0, 1e-3, 0.2, 1, 9]):
        bound = np.array(some, dtype=np.float64)
        expected = values.double().numpy() >= torch.tensor(bound).to(kind).double().numpy()[:, None]
        np.testing.assert_array_equal(reach(scores, bound), expected)
    assert reach(scores, np.array([0.5] * 7 + [-np.inf]))[7].all()
    assert reach(scores, np.array([0.5] * 7 + [np.nan]))[7].all()
