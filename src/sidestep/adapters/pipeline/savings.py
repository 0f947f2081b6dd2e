"""When rows of a network call may be left out: only where nothing else counts on all being there.

Correctness before saving: what is not known to treat each row alone gets every row.
"""

from typing import Any

# Hooks of diffusers that move weights and leave the batch alone.
HARMLESS_HOOKS = {
    "group_offloading",
    "lazy_prefetch_group_offloading",
    "layer_execution_tracker",
    "layerwise_casting",
    "peft_autocast_disable",
}
# Attention processors of diffusers that split the batch into groups of a meaning.
GROUPING = ("PAG", "CrossFrame", "FasterCache", "PyramidAttention")


def may_skip(module: Any) -> bool:
    """Whether every row of the network is computed alone: no cache, stock attention, no patch."""
    module = getattr(module, "_orig_mod", module)
    if getattr(module, "is_cache_enabled", False):
        return False
    for part in module.modules():
        registry = getattr(part, "_diffusers_hook", None)
        if registry is not None and not set(registry.hooks) <= HARMLESS_HOOKS:
            return False
        processor = getattr(part, "processor", None)
        if processor is not None and not _stock(type(processor)):
            return False
        if _patched(part):
            return False
    return True


def _stock(kind: type) -> bool:
    return kind.__module__.startswith("diffusers.") and not any(
        word in kind.__name__ for word in GROUPING
    )


def _patched(module: Any) -> bool:
    """Whether another extension, such as DeepCache, has put its own forward into a module."""
    forward = vars(module).get("forward")
    if forward is None or hasattr(forward, "sidestep_original"):
        return False
    # accelerate and diffusers keep the forward that they wrap.
    return not (hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook"))
