"""Loading without chatter: no progress bars, and no advice that does not concern the user.

Only inside of `quiet()`, and only that. Warnings about the model itself, such as weights that a
file lacks, still come through.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

ADVICE = (
    "requires torchvision",  # said at every import without it; pictures are never resized here
    "No LoRA keys associated",  # of a network that a LoRA leaves alone
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and ADVICE of diffusers and transformers, and restore both after.

    Raises ImportError if one of them is not installed.
    """
    with ExitStack() as after:
        for library in ("diffusers", "transformers"):
            _hide_progress(import_module(f"{library}.utils.logging"), after)
            for handler in logging.getLogger(library).handlers:
                handler.addFilter(_no_advice)
                after.callback(handler.removeFilter, _no_advice)
        yield


def _hide_progress(library: Any, after: ExitStack) -> None:
    if library.is_progress_bar_enabled():
        library.disable_progress_bar()
        after.callback(library.enable_progress_bar)


def _no_advice(record: logging.LogRecord) -> bool:
    return not any(advice in record.getMessage() for advice in ADVICE)
