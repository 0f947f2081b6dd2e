"""What a pipeline is made of: weights and settings, as a hash each."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sidestep.adapters import lora


def fingerprint(networks: Iterable[nn.Module]) -> str:
    """SHA-256 over names and bytes of all weights, and those of a LoRA that is on, with its scale.

    It depends on the order of the networks, not on where a LoRA was loaded from.
    """
    parts = list(networks)
    digest = hashlib.sha256()
    for tensors in [lora.base(p) for p in parts] + [lora.added(p) for p in parts]:
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def settings(*configs: Mapping[str, Any]) -> str:
    """8 hexadecimal digits for what configurations hold, but for what a library notes in them."""
    kept = [{k: v for k, v in one.items() if not k.startswith("_")} for one in configs]
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def precision(network: nn.Module) -> str:
    """The number format of a network's weights, such as float16."""
    return str(next(network.parameters()).dtype).removeprefix("torch.")
