"""The device is tried before a model is read, and what is wrong with it is a sentence."""

import pytest
import torch

from sidestep.adapters.clip import CLIPScore
from sidestep.adapters.devices import present, usable
from sidestep.adapters.opening import open_model
from sidestep.adapters.stable_diffusion import load
from sidestep.errors import BadModel


@pytest.mark.parametrize("word", ["foo", "cuda:99", "cpu:x"])
@pytest.mark.parametrize("opened", [open_model, load, CLIPScore])
def test_a_device_that_is_not_there_is_said_before_anything_is_read(opened, word):
    with pytest.raises(BadModel, match=f"device '{word}'.*this machine has cpu"):
        opened("there/is/no/model", device=word)


def test_what_is_there_can_be_used():
    for name in present():
        assert usable(name) == torch.device(name)
