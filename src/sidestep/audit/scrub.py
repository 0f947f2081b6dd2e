"""Free text without what names a machine or a person, or what an edition conceals."""

import getpass
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

PATH = "[path]"
SHORTEST = 3  # characters of a word that is looked for in free text
# From the root, a home, a drive, a share or a file: URL; up to what ends a path in a sentence. A
# slash behind a word, as in "on/off" or "scans/a.png", begins no absolute path.
_ABSOLUTE = re.compile(
    r"""file:/+[^\s"'<>|]+
      | (?<=')(?:~|/)[^'\n]*(?=') | (?<=")(?:~|/)[^"\n]*(?=")
      | (?<![\w/.\\)\]]) (?: ~[\w.-]*/ | /(?=[\w.~-]) ) [^\s"'<>|,;:()\[\]{}]*
      | (?<!\w) [A-Za-z]:[\\/] [^\s"'<>|,;()\[\]{}]*
      | \\\\ [\w.-]+ \\ [^\s"'<>|,;]*""",
    re.VERBOSE,
)
_QUERY = re.compile(r"""(https?://[^\s?#"'<>]+)[?#][^\s"'<>]*""")  # may carry a token
_ACCOUNT = re.compile(r"(?<![\w.])[\w.-]+@[\w-]+(?:\.[\w-]+)*")


class Scrub:
    """Takes paths, accounts, tokens of addresses, this machine's names and given words out."""

    def __init__(self, words: Iterable[str]) -> None:
        longest = sorted({w for w in words if len(w) >= SHORTEST}, key=lambda w: (-len(w), w))
        self._words = longest
        self._names = [(_whole(name), said) for name, said in machine()]
        self._known: dict[str, str] = {}

    def text(self, text: str) -> str:
        """The text without them; words that are concealed become [withheld]."""
        if text not in self._known:
            self._known[text] = self._scrubbed(text)
        return self._known[text]

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it scrubbed; keys are names of settings and stay."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {k: self.value(v) for k, v in value.items()}
            case list() | tuple():
                return [self.value(v) for v in value]
            case _:
                return value

    def _scrubbed(self, text: str) -> str:
        for word in self._words:
            if word in text:
                text = _whole(word).sub("[withheld]", text)
        text = _QUERY.sub(r"\1", text)
        text = _ABSOLUTE.sub(PATH, text)
        text = _ACCOUNT.sub("[account]", text)
        for name, said in self._names:
            text = name.sub(said, text)
        return text


def machine() -> list[tuple[str, str]]:
    """What this machine and its user are called, and what is said instead."""
    names = {socket.gethostname(): "[host]", socket.gethostname().partition(".")[0]: "[host]"}
    with suppress(OSError, KeyError):  # a process may run under a number without a name
        names[getpass.getuser()] = "[user]"
    return [(n, said) for n, said in names.items() if len(n) >= SHORTEST and n != "localhost"]


def _whole(word: str) -> re.Pattern[str]:
    """A word that is not a part of a longer one."""
    before = r"(?<!\w)" if word[0].isalnum() else ""
    after = r"(?!\w)" if word[-1].isalnum() else ""
    return re.compile(before + re.escape(word) + after)
