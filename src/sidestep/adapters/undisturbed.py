"""A block in which networks that are being trained may be asked, and after which nothing shows.

Inside, every submodule is in evaluation mode, gradients are off, and a surrounding autocast does
not act, so that what comes out depends on weights and inputs alone. Afterwards the mode of every
submodule and the global random numbers of Python, NumPy and torch are what they were.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

REGISTRY = "_diffusers_hook"  # an empty one is what pipelines leave on a transformer


@contextmanager
def undisturbed(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Ask the networks inside the block and leave no trace of it, also where it raises.

    Gradients, `requires_grad`, types, devices and hooks are not touched at all. Hooks that somebody
    put on a network are called inside too.
    """
    bare = [m for network in networks for m in network.modules() if REGISTRY not in vars(m)]
    modes = [(m, m.training) for network in networks for m in network.modules()]
    with ExitStack() as after:
        after.callback(_set_modes, modes)
        after.callback(_unregister, bare)
        after.enter_context(_global_numbers())
        after.enter_context(torch.no_grad())
        for kind in sorted({p.device.type for network in networks for p in network.parameters()}):
            after.enter_context(torch.autocast(kind, enabled=False))
        # Not eval(): some layers fold weights into others when that is called.
        _set_modes([(m, False) for m, _ in modes])
        yield


def _unregister(modules: Sequence[nn.Module]) -> None:
    for module in modules:
        vars(module).pop(REGISTRY, None)


def _set_modes(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


@contextmanager
def _global_numbers() -> Iterator[None]:
    """Give the global random numbers back as they were."""
    python, numpy = random.getstate(), _numpy_state()
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _numpy_state() -> Any:
    # The old global generator is the one that data loaders and augmentations draw from.
    return np.random.get_state(legacy=False)
