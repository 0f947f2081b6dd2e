"""Rewording: another prompt in place of one that is known, such as a paraphrase.

The semantic search of Chen et al., CVPR 2025, arXiv:2504.18032, takes its prompts from a language
model; which one, and what it said, is the caller's to give.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sidestep.mitigations.base import Start


@dataclass(frozen=True)
class Rewording:
    """Say the second prompt of a pair where the first was asked for.

    A prompt without a pair stays and has not reached its target. Plain guidance without pairs.
    """

    pairs: tuple[tuple[str, str], ...] = ()

    name: ClassVar[str] = "rewording"

    def __post_init__(self) -> None:
        """Refuse what are no pairs of prompts."""
        for pair in self.pairs:
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"{pair!r} is no pair; give (prompt, what to say instead)")

    def begin(self, start: Start) -> Start:
        """The run with the other prompts."""
        start.text_model()
        given = dict(self.pairs)
        known = torch.tensor([prompt in given for prompt in start.prompts])
        if not bool(known.any()):
            return start.done(self.name, known)
        return start.with_prompts([given.get(p, p) for p in start.prompts]).done(self.name, known)
