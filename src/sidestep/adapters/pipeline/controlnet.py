"""The rows of a ControlNet that runs before a batched network: those the network will need.

Its residuals come back with all rows, zeros where none was computed; the network's own call then
takes the same rows of them.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sidestep.adapters.pipeline.calls import Call
from sidestep.adapters.pipeline.rows import Arguments, argument, select, spread
from sidestep.guidance.base import Needs


def before(
    call: Call,
    module: Any,
    network: Any,
    arguments: Arguments,
    kept: Callable[[list[Needs]], list[int]],
) -> tuple[Arguments, list[int]] | None:
    """The arguments for the rows that are needed, and which; None where all are.

    `network` is the one that will be called next, `kept` gives the rows of its batch.
    """
    names = call.names(module)
    sample = argument(names, arguments)
    rows = len(sample)
    # In guess mode it runs on the conditional rows alone. The first step of a generation is made
    # in full: the network's call then shows how many samples there are.
    if rows % 2 or argument(names, arguments, "guess_mode") or call.begins(rows // 2):
        return None
    if not (call.wants_guidance() and call.can_skip(module) and call.can_skip(network)):
        return None
    keep = kept(call.needs(module, arguments))
    return (select(names, arguments, rows, keep), keep) if len(keep) < rows else None


def after(output: Any, rows: int, keep: list[int]) -> Any:
    """The residuals with all rows again."""
    if isinstance(output, Tensor):
        return spread(output, rows, keep)
    if isinstance(output, list | tuple):
        return type(output)(after(part, rows, keep) for part in output)
    return output
