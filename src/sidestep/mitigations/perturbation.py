"""Prompt perturbation: random words, random numbers, repeated words, noise on the embeddings.

    RTA  insert k random tokens of the vocabulary at random places of the prompt
    RNA  insert k random integers below 100 000
    CWR  insert k words of the prompt once more
    GNI  e <- e + strength * n,  n ~ N(0, I), on the conditional embeddings

Each image has its own draw. k = 0 and strength 0 are plain guidance. No network evaluation.

Source: Somepalli et al., Understanding and Mitigating Copying in Diffusion Models, NeurIPS 2023,
arXiv:2305.20086.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from sidestep.mitigations.base import Start, check_finite
from sidestep.rng import stream


def _insert(
    start: Start, name: str, count: int, pick: Callable[[list[str], "_Draw"], str]
) -> Start:
    """The run whose prompts have `count` more words, each picked and placed at random."""
    start.text_model()
    if count == 0:
        return start.done(name)
    prompts = []
    for prompt, seed in zip(start.prompts, start.seeds, strict=True):
        words, draw = prompt.split(), _Draw(seed, name)
        for new in [pick(prompt.split(), draw) for _ in range(count)]:
            words.insert(draw.below(len(words) + 1), new)
        prompts.append(" ".join(words))
    return start.with_prompts(prompts).done(name)


class _Draw:
    """Random whole numbers of one image."""

    def __init__(self, seed: int, name: str) -> None:
        self.generator = stream(seed, name)

    def below(self, end: int) -> int:
        """A number in [0, end)."""
        return int(torch.randint(end, (1,), generator=self.generator))


def _check_count(count: int) -> None:
    if count < 0:
        raise ValueError(f"count is {count}; it is how many words to insert, from 0 up")


@dataclass(frozen=True)
class RandomWords:
    """Insert `count` random tokens of the vocabulary into the prompt (RTA)."""

    count: int = 4

    name: ClassVar[str] = "random-words"

    def __post_init__(self) -> None:
        """Refuse a negative count."""
        _check_count(self.count)

    def begin(self, start: Start) -> Start:
        """The run with the new prompts."""
        words = start.text_model().vocabulary
        return _insert(start, self.name, self.count, lambda _, draw: words[draw.below(len(words))])


@dataclass(frozen=True)
class RandomNumbers:
    """Insert `count` random integers below 100 000 into the prompt (RNA)."""

    count: int = 4

    name: ClassVar[str] = "random-numbers"

    def __post_init__(self) -> None:
        """Refuse a negative count."""
        _check_count(self.count)

    def begin(self, start: Start) -> Start:
        """The run with the new prompts."""
        return _insert(start, self.name, self.count, lambda _, draw: str(draw.below(100_000)))


@dataclass(frozen=True)
class WordRepetition:
    """Insert `count` words of the prompt once more (CWR)."""

    count: int = 4

    name: ClassVar[str] = "word-repetition"

    def __post_init__(self) -> None:
        """Refuse a negative count."""
        _check_count(self.count)

    def begin(self, start: Start) -> Start:
        """The run with the new prompts."""
        return _insert(
            start, self.name, self.count, lambda words, draw: words[draw.below(len(words))]
        )


@dataclass(frozen=True)
class EmbeddingNoise:
    """Add Gaussian noise of standard deviation `strength` to the prompt embeddings (GNI)."""

    strength: float = 0.1

    name: ClassVar[str] = "embedding-noise"

    def __post_init__(self) -> None:
        """Refuse a strength that is not finite."""
        check_finite(strength=self.strength)

    def begin(self, start: Start) -> Start:
        """The run with noisy conditional embeddings; the unconditional ones stay."""
        if self.strength == 0:
            return start.done(self.name)
        text = start.text
        rows = [
            torch.randn(text.cond.shape[1:], generator=stream(seed, self.name), dtype=torch.float32)
            for seed in start.seeds
        ]
        noise = torch.stack(rows).to(text.cond)
        return start.with_text(text._replace(cond=text.cond + self.strength * noise)).done(
            self.name
        )
