"""Numbers as people read them."""

import re
from datetime import UTC, datetime
from typing import Any

from sidestep.web.words import SPACE

Pairs = list[tuple[str, str]]


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with two figures that matter: `0.25 %`, `37 %`, `99.7 %`.

    Only 0 is written as 0, and only 1 as 100.
    """
    value = 100 * share
    if value in (0, 100) or 10 <= value <= 99:
        return f"{value:.0f}{SPACE}%"
    if value > 99:
        return f"{min(value, 99.9):.1f}{SPACE}%"
    return f"{_two(value)}{SPACE}%"


def signed(value: float) -> str:
    """A difference with its sign, three digits behind the point."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def chance(p: float) -> str:
    """A p-value."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def when(created: str) -> str:
    """A time stamp as people write it, anything else as it is."""
    try:
        moment = datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return created
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def value(one: Any) -> str:
    """A JSON value in readable text."""
    match one:
        case None:
            return "none"
        case bool():
            return "yes" if one else "no"
        case int():
            return str(one)
        case float():
            return f"{one:.4g}"
        case dict():
            return ", ".join(f"{k} {value(v)}" for k, v in one.items()) or "none"
        case list() | tuple():
            return ", ".join(value(v) for v in one) or "none"
        case _:
            return str(one)


def pairs(facts: dict[str, Any]) -> Pairs:
    """Facts as (name, text), in their order."""
    return [(key.replace("_", " "), value(one)) for key, one in facts.items()]


def together(text: str) -> str:
    """The text with each number and its % on one line."""
    return re.sub(r"(?<=\d) %", f"{SPACE}%", text)


def rising(levels: dict[str, int]) -> list[tuple[str, int]]:
    """Levels such as `1`, `3-4`, `10+` from low to high; JSON keeps them by spelling."""
    return sorted(levels.items(), key=lambda level: int("0" + re.split(r"\D", level[0])[0]))


def short(text: str) -> str:
    """A SHA-256 by its first twelve digits, any other text as it is."""
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _two(value: float) -> str:
    digits = f"{value:.1e}"
    places = max(0, 1 - int(digits.partition("e")[2]))
    return f"{float(digits):.{places}f}"
