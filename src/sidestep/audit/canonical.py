"""Values as canonical JSON (RFC 8785): equal values are equal bytes, so a hash stands for a value.

Written by the package rfc8785, and read back strictly: bytes that it would not have written are
refused. Every number is a double there, so a float without a fraction comes back as an integer.
"""

import json
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, NoReturn

from sidestep.errors import MissingExtra

INSTALL = "Install with: pip install 'sidestep[audit]'"
LARGEST = 2**53 - 1  # up to here every integer is a double


def to_bytes(value: Any) -> bytes:
    """A value of dictionaries, lists, text, numbers, booleans and None as canonical JSON.

    Raises:
        ValueError: NaN, an infinity, an integer beyond 2^53 - 1, a key that is no text, half of a
            surrogate pair, or another type; the sentence says where.
        MissingExtra: rfc8785 is not installed.
    """
    try:
        return _dumps(value)
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON, or holds itself") from None
    except ValueError as error:
        place, part = _find(value)
        raise ValueError(f"{place or 'the value'} {_why(part)}") from error


def from_bytes(data: bytes) -> Any:
    """The value of canonical JSON.

    Raises:
        ValueError: no JSON, the same key twice in an object, or other bytes than `to_bytes` gives
            for that value: blanks, another order of keys, another form of a number.
        MissingExtra: rfc8785 is not installed.
    """
    value = parsed(data)
    again = to_bytes(value)
    if again != data:
        pairs = enumerate(zip(again, data, strict=False))
        apart = next((i for i, (a, b) in pairs if a != b), min(len(again), len(data)))
        raise ValueError(f"not the canonical form (RFC 8785) from byte {apart} on")
    return value


def parsed(data: bytes) -> Any:
    """The value of JSON in any form; ValueError for no JSON or the same key twice in an object."""
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_int=_number,
            parse_constant=_no_number,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON from character {error.pos} on ({error.msg})") from error


def _dumps(value: Any) -> bytes:
    if find_spec("rfc8785") is None:
        raise MissingExtra("rfc8785", INSTALL, "canonical JSON")
    import rfc8785

    return rfc8785.dumps(value)


def _find(value: Any, place: str = "") -> tuple[str, Any]:
    """The innermost part that cannot be written, and where it lies."""
    if isinstance(value, list | tuple):
        parts: Iterable[tuple[Any, Any]] = enumerate(value)
    else:
        parts = value.items() if isinstance(value, dict) else ()
    for key, part in parts:
        try:
            _dumps(part)
        except ValueError:
            return _find(part, f"{place}/{key}")
    return place, value


def _why(part: Any) -> str:
    if isinstance(part, float):
        return f"is {part}, and JSON has finite numbers only; write None for what is not known"
    if isinstance(part, int):
        return "is an integer beyond 2^53 - 1, where not every one is a double; write it as text"
    if isinstance(part, str):
        return "holds half of a surrogate pair, which is no character; replace it"
    if isinstance(part, dict):
        return "has a key that is no text, or not whole characters; write keys as text"
    return f"is of type {type(part).__name__}; JSON has dictionaries, lists, text and numbers only"


def _number(text: str) -> int | float:
    number = float(text)
    return int(text) if abs(number) <= LARGEST else number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("the same key twice in an object")
    return made
