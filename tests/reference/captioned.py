"""A memorizer with a text encoder and one cross-attention, all of it in closed form.

A token's embedding is (1 + N,): its attention logit, then the log weight it gives to each of N
pictures. The weights of a branch are the attention's average over the tokens, and the denoiser is
the exact one for pictures of those weights. Words spread their weight over a concept; the end of
a memorized caption, and the padding after it, put theirs on one picture, as CLIP's do in Stable
Diffusion 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sidestep.guidance import Needs, Prediction
from sidestep.guidance.denoiser import Level
from sidestep.mitigations.text import Place, Text
from sidestep.models.closed_form import _mixture

TOKENS = 10
FLOOR = -12.0  # log weight of a picture that a token does not speak of
SPIKE = 2.0  # attention logit of the end token; words have 0


@dataclass(frozen=True)
class Captioned:
    """The denoiser; `points` (N, *S) float64, `variance` of every picture."""

    points: Tensor
    text: Text
    count: Tensor  # (all samples,) network evaluations, shared by all selections
    ids: Tensor  # (B,)
    edits: tuple = ()
    variance: float = 1e-3

    def select(self, rows):
        return replace(self, text=self.text.select(rows), ids=self.ids[rows])

    def with_text(self, text):
        return replace(self, text=text)

    def with_attention(self, edit):
        return replace(self, edits=(*self.edits, edit))

    def weights(self, branch: str) -> Tensor:
        """(B, N) of one branch."""
        tokens = getattr(self.text, branch)
        logits = tokens[:, None, None, :, 0]
        for edit in self.edits:
            logits = edit(logits, self.text, Place("down_blocks.0.attn2", "down", branch))
        attention = logits.softmax(-1)[:, 0, 0]
        return torch.einsum("bt,btn->bn", attention, tokens[:, :, 1:].exp())

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        self.count.index_add_(
            0, self.ids, torch.full((len(x),), needs.uncond + needs.cond, dtype=torch.int64)
        )
        variances = torch.full((len(self.points),), self.variance, dtype=torch.float64)
        return _mixture(
            x, level, needs, self.points, variances, self.weights("cond"), self.weights("uncond")
        )


class Captions:
    """The text model: pictures 2c and 2c+1 belong to concept c; `memorized` captions to one."""

    words = ("fox", "ship", "lamp", "tree")
    pads_with_end = True
    vocabulary = ("fox", "ship", "lamp", "tree", "red", "blue", "big")

    def __init__(self, memorized: dict[str, int], side: int = 4) -> None:
        self.memorized = memorized
        generator = torch.Generator().manual_seed(7)
        shape = (2 * len(self.words), 3, side, side)
        self.points = torch.randn(shape, generator=generator, dtype=torch.float64)

    def embed(self, prompts: Sequence[str], pad: str | None = None) -> Text:
        rows, lengths = [], []
        for prompt in prompts:
            words = prompt.split()[: TOKENS - 2]
            about = [self._token(word) for word in words]
            end = torch.stack([self.start, *about]).mean(0)
            if prompt in self.memorized:
                end = torch.full_like(self.start, FLOOR)
                end[1 + self.memorized[prompt]] = 0.0
            end = end.clone()
            end[0] = SPIKE
            fill = end if pad is None else self._token(pad)
            length = len(words) + 2
            rows.append(torch.stack([self.start, *about, end] + [fill] * (TOKENS - length)))
            lengths.append(length)
        empty = torch.stack([self.start] * TOKENS)
        return Text(torch.stack(rows), empty.expand(len(rows), -1, -1), torch.tensor(lengths))

    def pictures(self, latents: Tensor) -> Tensor:
        return latents.tanh()

    def denoiser(self, prompts: Sequence[str]) -> Captioned:
        batch = len(prompts)
        count = torch.zeros(batch, dtype=torch.int64)
        return Captioned(self.points, self.embed(prompts), count, torch.arange(batch))

    @property
    def start(self) -> Tensor:
        return torch.zeros(1 + len(self.points), dtype=torch.float64)

    def _token(self, word: str) -> Tensor:
        token = self.start
        if word in self.words:
            token[1:] = FLOOR
            first = 2 * self.words.index(word)
            token[1 + first : 3 + first] = 0.0
        return token
