"""The device a network is to run on, tried before gigabytes are read for it."""

import torch

from sidestep.errors import BadModel


def usable(device: torch.device | str) -> torch.device:
    """The device, on which a tensor was just made.

    Raises BadModel for a word that names no device, and for one that is not there.
    """
    try:
        made = torch.device(device)
        torch.empty(0, device=made)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise BadModel(
            f"no network can run on the device {str(device)!r} here ({first}); this machine has "
            f"{' and '.join(present())}"
        ) from error
    return made


def present() -> list[str]:
    """The devices of this machine that torch can use, such as cpu and cuda:0."""
    here = torch.accelerator.current_accelerator(check_available=True)
    count = 0 if here is None else torch.accelerator.device_count()
    return ["cpu", *(f"{here.type}:{i}" for i in range(count) if here is not None)]
