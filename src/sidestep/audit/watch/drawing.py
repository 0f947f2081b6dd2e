"""What a watch draws: the same prompts, seeds and steps every time, from networks in training."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sidestep.guidance.schedules import DEFAULT_SCALE
from sidestep.runs.generate import Job, Model, make, method
from sidestep.similarity.base import Images


class Drawn(NamedTuple):
    """Pictures, and what they cost."""

    jobs: list[Job]
    images: Images  # (N, H, W, 3), one for each job
    nfe: int  # network evaluations of all


@dataclass(frozen=True)
class Drawing:
    """How pictures are made. A picture depends on weights, seed, prompt and draw alone."""

    prompts: tuple[str, ...]
    draws: int = 1  # pictures of each prompt
    steps: int = 25  # of the sampler
    scale: float = DEFAULT_SCALE  # of plain guidance, which copies most
    seed: int = 0
    batch: int = 8  # pictures at once; bounds memory

    def __post_init__(self) -> None:
        """ValueError for settings out of range."""
        if not self.prompts:
            raise ValueError(
                "there is no prompt; give captions, or training pictures that have some"
            )
        if min(self.draws, self.steps, self.batch) < 1:
            raise ValueError(
                f"draws is {self.draws}, steps {self.steps} and batch {self.batch}; each must be "
                "at least 1"
            )

    def draw(self, model: Model, first: int, last: int) -> Drawn:
        """The draws from `first` to before `last` of every prompt."""
        jobs = [Job(prompt, draw) for prompt in self.prompts for draw in range(first, last)]
        plain = method("constant", scale=self.scale)
        made = make(model, jobs, plain, seed=self.seed, steps=self.steps, batch=self.batch)
        return Drawn(jobs, made.images, int(made.trace.nfe.sum()))


def prompts_of(captions: Sequence[str | None], most: int, seed: int) -> tuple[str, ...]:
    """As many of the distinct captions, chosen by the seed, in the order in which they come."""
    if most < 1:
        raise ValueError(f"captions is {most}; draw at least 1 of the training captions")
    every = list(dict.fromkeys(caption for caption in captions if caption))
    chosen = sorted(random.Random(seed).sample(range(len(every)), min(most, len(every))))
    return tuple(every[i] for i in chosen)
