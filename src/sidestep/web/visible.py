"""Text of others made honest: marks that hide or turn text around are written out.

A right-to-left override in a caption would show the words behind it backwards, a zero-width space
would make two captions look like one, and a lone surrogate cannot be written to a file at all.
"""

import re
import unicodedata
from typing import Any

from markupsafe import Markup

CLIP = 2000  # characters of a text that a page shows; the file beside it has all of them
JOINERS = "\u200c\u200d"  # Persian words and joined emoji need them
_SUSPECT = re.compile(r"[^\n\t\x20-\x7e\xa0-\xac\xae-\u05ff\u1e00-\u1fff]")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""The text with hidden characters as \u escapes, cut after CLIP characters with a count."""
    shown = _SUSPECT.sub(lambda found: _written(found[0]), text[:CLIP])
    return shown if len(text) <= CLIP else f"{shown}… ({len(text):,} characters)"


def finalize(value: Any) -> Any:
    """What Jinja does to every value that a template writes: text of others becomes visible."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


def _written(character: str) -> str:
    if character in JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"\\u{ord(character):04x}"
