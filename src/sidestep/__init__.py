"""Sample diffusion models without getting training images back, and prove what changed.

The names below are imported when they are first used, so `import sidestep` loads no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidestep.adapters.guider import Guider
    from sidestep.adapters.mitigate import mitigate
    from sidestep.adapters.pipeline import guide
    from sidestep.adapters.stable_diffusion import load
    from sidestep.audit.watch import CopyWatch
    from sidestep.guidance import Constant, Dynamic, Interval, Scheduled, Static
    from sidestep.sampling import Trace, sample

    __version__: str

__all__ = [
    "Constant",
    "CopyWatch",
    "Dynamic",
    "Guider",
    "Interval",
    "Scheduled",
    "Static",
    "Trace",
    "__version__",
    "guide",
    "load",
    "mitigate",
    "rules",
    "sample",
]

_WHERE = {
    "Constant": "sidestep.guidance",
    "CopyWatch": "sidestep.audit.watch",
    "Dynamic": "sidestep.guidance",
    "Guider": "sidestep.adapters.guider",
    "Interval": "sidestep.guidance",
    "Scheduled": "sidestep.guidance",
    "Static": "sidestep.guidance",
    "Trace": "sidestep.sampling",
    "guide": "sidestep.adapters.pipeline",
    "load": "sidestep.adapters.stable_diffusion",
    "mitigate": "sidestep.adapters.mitigate",
    "sample": "sidestep.sampling",
}


def rules() -> list[str]:
    """The names of the guidance rules, as the command line and `sidestep.registry` know them."""
    from sidestep import registry

    return [entry.name for entry in registry.entries("rule")]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'sidestep' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sidestep")
    except PackageNotFoundError as error:
        raise AttributeError(
            "sidestep runs from a folder and is not installed, so it has no version; "
            "install it with: pip install -e ."
        ) from error


def __dir__() -> list[str]:
    """Every public name, imported or not."""
    return sorted({*globals(), *__all__})
