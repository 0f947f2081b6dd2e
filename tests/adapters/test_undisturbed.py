"""What is asked inside of `undisturbed` leaves nothing behind."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from sidestep.adapters.undisturbed import undisturbed


def numbers():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_global_random_numbers_and_modes_come_back_also_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    network.train()
    network[2].eval()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    with pytest.raises(KeyError), undisturbed([network]):
        numbers()
        assert not any(m.training for m in network.modules())
        assert not torch.is_grad_enabled()
        raise KeyError
    assert numbers() == expected
    assert [m.training for m in network.modules()] == [True, True, True, False]
    assert torch.is_grad_enabled()


def test_a_layer_that_folds_weights_in_eval_is_not_asked_to():
    class Folding(nn.Linear):
        def train(self, mode=True):
            if not mode:
                self.weight.data += 1
            return super().train(mode)

    layer = Folding(2, 2)
    before = layer.weight.clone()
    with undisturbed([layer]):
        assert not layer.training
    assert torch.equal(layer.weight, before)


def test_a_surrounding_autocast_neither_acts_nor_keeps_weights_without_gradients():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with undisturbed([layer]):
            assert layer(x).dtype == torch.float32
            with torch.autocast("cpu", torch.bfloat16):  # as in a network that accelerate prepared
                layer(x)
        layer(x).sum().backward()
    assert layer.weight.grad is not None
