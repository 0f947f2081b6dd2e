"""A pipeline whose call goes through a handle, without being another kind of pipeline."""

import functools
from collections.abc import Callable
from typing import Any

Run = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


def calling(kind: type, run: Run, mark: str, handle: Any) -> type:
    """A subclass of a pipeline's class whose call is `run`; it passes for that class everywhere.

    `mark` is the name under which the subclass holds the handle.
    """

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run(self, args, kwargs)

    def reduce(self: Any, protocol: Any) -> Any:
        """A copy or a pickle is a pipeline of the original class."""
        maker, arguments, *rest = tuple(object.__reduce_ex__(self, protocol))
        return (maker, tuple(kind if a is type(self) else a for a in arguments), *rest)

    names = {
        "__call__": call,
        "__reduce_ex__": reduce,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        mark: handle,
    }
    return type(kind.__name__, (kind,), names)
