"""Torch forward hooks around the networks of a pipeline, and the one patch for a call left out.

Torch's own hooks, not those of diffusers: accelerate takes a network's forward off and puts it on
again at every call of a pipeline, and with it what others have wrapped around it.
"""

import copy
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch

from sidestep.adapters.pipeline.calls import Call, Skip
from sidestep.adapters.pipeline.rows import Arguments

Current = Callable[[], Call | None]


class Hooked:
    """The hooks on one network; they act only inside calls of their own pipeline.

    A copy of the network carries copies of the hooks, which find that it is another module and do
    nothing. The network is held weakly.
    """

    def __init__(self, module: Any, network: str, current: Current) -> None:
        """Put the hooks on; `current` gives the pipeline call that this thread is in, or None."""
        self._module = weakref.ref(module)
        self._network, self._current = network, current
        self._standin: _Forward | None = None
        # Compiled code must not be traced through the hooks: they decide at every step anew.
        self._handles = [
            module.register_forward_pre_hook(_untraced(self._before, 3), with_kwargs=True),
            module.register_forward_hook(_untraced(self._after, 4), with_kwargs=True),
        ]

    def remove(self) -> None:
        """Take the hooks and the patch off."""
        for handle in self._handles:
            handle.remove()
        module = self._module()
        if self._standin is not None and module is not None:
            self._standin.release(module)
        self._standin = None  # it holds the network's own forward, and with it the network

    def is_on(self, module: Any) -> bool:
        """Whether these are the hooks on that network, compiled or not."""
        mine = self._module()
        return mine is not None and _bare(mine) is _bare(module)

    def _call(self, module: Any) -> Call | None:
        return self._current() if self._module() is module else None

    def _before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._call(module)
        if call is None:
            return None
        made = call.before(module, self._network, Arguments(args, kwargs))
        if call.prepares:
            # Torch has looked the forward up before its hooks run: this serves the next call.
            self._standin = _Forward.on(_bare(module))
        if isinstance(made, Skip):
            if self._standin is not None:
                self._standin.give(made.output)
            return None
        return made and tuple(made)

    def _after(self, module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        call = self._call(module)
        if call is None:
            return None
        skipped = self._standin is not None and self._standin.gave()
        return call.after(module, self._network, Arguments(args, kwargs), output, skipped)


def _bare(module: Any) -> Any:
    return getattr(module, "_orig_mod", module)


def _untraced(method: Callable[..., Any], count: int) -> Callable[..., Any]:
    """A hook of that many arguments; compiled code does not trace it, nor `deepcopy` copy it.

    Torch notes in two tables that a hook takes keyword arguments. To another thread that calls the
    network in between, it is one that takes none: that call is not ours, and passes.
    """

    def hook(*args: Any) -> Any:
        return method(*args) if len(args) == count else None

    made: Callable[..., Any] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return made


class _Forward:
    """A network's forward that can be told, per thread, to answer the next call without running.

    Whoever takes it off again, as accelerate does, costs a saving and nothing else: the call is
    then made in full, and the next one puts it back.
    """

    # Threads that share a network share the one on it.
    _lock = threading.Lock()

    def __init__(self, original: Callable[..., Any]) -> None:
        self.sidestep_original = original
        self._local = threading.local()
        functools.update_wrapper(self, original)

    @classmethod
    def on(cls, module: Any) -> "_Forward":
        """The one on that network, put there if it is not."""
        with cls._lock:
            forward = vars(module).get("forward")
            if isinstance(forward, cls):
                return forward
            held = getattr(forward, "__wrapped__", None)
            if isinstance(held, cls):
                return held
            module.forward = made = cls(module.forward)
            return made

    def release(self, module: Any) -> None:
        """Take it off; wrapped by another it stays below, and passes every call on."""
        original = self.sidestep_original
        own = getattr(original, "__func__", None) is type(module).forward
        with self._lock:
            if vars(module).get("forward") is self:
                if own:
                    del module.forward
                else:
                    module.forward = original
            elif vars(module).get("_old_forward") is self:
                module._old_forward = original

    def give(self, output: Any) -> None:
        """Answer the next call of this thread with that."""
        self._local.output, self._local.gave = output, False

    def gave(self) -> bool:
        """Whether the last call of this thread was answered so; forgets it."""
        gave = bool(getattr(self._local, "gave", False))
        self._local.output, self._local.gave = None, False
        return gave

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator,no-untyped-call]
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = getattr(self._local, "output", None)
        if output is None:
            return self.sidestep_original(*args, **kwargs)
        self._local.output, self._local.gave = None, True
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.sidestep_original, memo)
