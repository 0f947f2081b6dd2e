"""Some rows of a network call: its arguments in, its answer out.

An argument with one row per sample is cut to the rows that are wanted; tables of positions never
are, though their length may equal the batch by accident. A list that could be either is refused.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidestep.errors import SidestepError

# Tables that have no rows per sample.
WHOLE = {
    "image_rotary_emb",
    "freqs_cis",
    "img_ids",
    "txt_ids",
    "ofs",
    "skip_layers",
}
# Lists with one entry per row.
PER_ROW = {"x", "cap_feats", "img_shapes", "txt_seq_lens"}
# Lists of tensors, each with all rows.
PER_PART = {
    "image_embeds",
    "ip_hidden_states",
    "ip_adapter_masks",
    "ip_adapter_image_embeds",
    "down_block_additional_residuals",
    "down_intrablock_additional_residuals",
    "controlnet_block_samples",
    "controlnet_single_block_samples",
    "block_controlnet_hidden_states",
    "encoder_hidden_states",
}
# Tensors that may hold several consecutive rows of each sample, one per frame.
PER_FRAME = {
    "encoder_hidden_states",
    "image_embeds",
    "down_block_additional_residuals",
    "mid_block_additional_residual",
}


class Arguments(NamedTuple):
    """A network call; `positional` keeps its order, some patches read it by place."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


def names_of(module: Any) -> list[str]:
    """The parameters of a network's forward, in order."""
    kind = type(getattr(module, "_orig_mod", module))
    return list(inspect.signature(kind.forward).parameters)[1:]


def argument(names: Sequence[str], call: Arguments, *wanted: str) -> Any:
    """The argument of the first of those names that was given; without names, the first one."""
    given = dict(zip(names, call.positional, strict=False)) | call.named
    if not wanted:
        return given.get(names[0])
    return next((given[name] for name in wanted if name in given), None)


def select(names: Sequence[str], call: Arguments, rows: int, keep: Sequence[int]) -> Arguments:
    """The call with the rows `keep` of its `rows` rows.

    Raises SidestepError for a list whose length is the number of rows and whose meaning is unknown.
    """
    positional = tuple(
        _cut(name, value, rows, keep) for name, value in zip(names, call.positional, strict=False)
    )
    named = {name: _cut(name, value, rows, keep) for name, value in call.named.items()}
    return Arguments(positional, named)


def _cut(name: str, value: Any, rows: int, keep: Sequence[int]) -> Any:
    if name in WHOLE:
        return value
    if isinstance(value, Tensor):
        if value.ndim == 0 or len(value) % rows:
            return value
        times = len(value) // rows
        if times == 1:
            return take(value, keep)
        if name in PER_FRAME:
            return take(value.reshape(rows, times, *value.shape[1:]), keep).flatten(0, 1)
        return value
    if isinstance(value, dict):
        return {key: _cut(str(key), inner, rows, keep) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if name in PER_ROW and len(value) == rows:
            return [value[i] for i in keep]
        if name not in PER_PART and len(value) == rows:
            raise SidestepError(
                f"the network's argument {name!r} is a list as long as the batch, {rows} rows; "
                "whether it has one entry per row is not known, so no rows can be left out. "
                "Compute them all: sidestep.guide(pipe, rule, skip=False)"
            )
        return type(value)(_cut(name, inner, rows, keep) for inner in value)
    return value


def take(tensor: Tensor, keep: Sequence[int]) -> Tensor:
    """Rows of a tensor; a run of neighbours is a view."""
    if len(keep) == keep[-1] - keep[0] + 1:
        return tensor[keep[0] : keep[-1] + 1]
    return tensor[torch.tensor(keep, device=tensor.device)]


def spread(tensor: Tensor, rows: int, keep: Sequence[int]) -> Tensor:
    """The inverse of `take`: all rows again, those that were left out zero."""
    full = tensor.new_zeros(rows, *tensor.shape[1:])
    full[torch.tensor(keep, device=tensor.device)] = tensor
    return full


def answer(output: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The prediction in what a network returned, and how to put another in its place."""
    if isinstance(output, Tensor):
        return output, lambda new: new
    if isinstance(output, tuple):
        inner, put = answer(output[0])
        return inner, lambda new: (put(new), *output[1:])
    if isinstance(output, list) and all(isinstance(t, Tensor) for t in output):
        return torch.stack(output), lambda new: list(new.unbind())
    if isinstance(getattr(output, "sample", None), Tensor):
        return output.sample, lambda new: type(output)(sample=new)
    raise SidestepError(
        f"the network answered with a {type(output).__name__}; a tensor, a tuple that starts with "
        "one or an output with .sample is known"
    )
