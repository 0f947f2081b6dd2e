"""Words replaced by commitments, which their owner can open one by one.

A plain SHA-256 of a caption hides nothing: captions are short and public lists of them long, so
whoever has such a list hashes it and looks. Here each word gets 32 random bytes of its own first,
token = SHA-256(nonce, word), and the nonces stay with the owner. Without its nonce a token tells
nothing; with it anybody can check one word and learns nothing of the others.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable

NONCE = 32  # bytes


class Concealed:
    """The commitments of one edition; each edition has its own, so that two cannot be compared."""

    def __init__(self) -> None:
        self._nonces: dict[str, bytes] = {}

    def token(self, word: str) -> str:
        """The commitment to a word, 64 hexadecimal digits; the same for the same word."""
        nonce = self._nonces.setdefault(word, secrets.token_bytes(NONCE))
        return commitment(nonce, word)

    @property
    def words(self) -> Iterable[str]:
        """What has been replaced."""
        return self._nonces.keys()

    def openings(self) -> str:
        """JSON Lines with token, nonce and word: each line opens one token and no other."""
        rows = (
            {"token": commitment(nonce, word), "nonce": nonce.hex(), "word": word}
            for word, nonce in self._nonces.items()
        )
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def commitment(nonce: bytes, word: str) -> str:
    """SHA-256 of the nonce and the word in UTF-8, in hexadecimal."""
    return hashlib.sha256(nonce + word.encode("utf-8", "surrogatepass")).hexdigest()
