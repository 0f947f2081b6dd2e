"""One line per mitigation: a neutral strength, a strong one, and what it costs by its formula."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sidestep.mitigations.perturbation import (
    EmbeddingNoise,
    RandomNumbers,
    RandomWords,
    WordRepetition,
)

STEPS = 12


class Case(NamedTuple):
    """`before` and `during`: evaluations per sample before the first step and in all steps."""

    neutral: Any
    strong: Any
    before: Callable[[Any], int] = lambda strong: 0
    during: Callable[[Any], int] = lambda strong: 2 * STEPS
    exact: bool = True  # a neutral strength equals plain guidance to the bit
    moves: bool = True  # it lowers the share of copies on the closed-form memorizer


CASES = {
    # Words dilute the end token's share of the attention; a repeated one says nothing new.
    "random-words": Case(RandomWords(0), RandomWords(6)),
    "random-numbers": Case(RandomNumbers(0), RandomNumbers(6)),
    "word-repetition": Case(WordRepetition(0), WordRepetition(6)),
    "embedding-noise": Case(EmbeddingNoise(0.0), EmbeddingNoise(4.0)),
}
