"""What a text-conditional network shows a mitigation: prompt embeddings and cross-attention."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from sidestep.guidance.base import Needs, Prediction
from sidestep.guidance.denoiser import Level


class Text(NamedTuple):
    """The prompt embeddings of B samples. Position 0 is the start token."""

    cond: Tensor  # (B, tokens, width)
    uncond: Tensor  # (B, tokens, width)
    length: Tensor  # (B,) int64, tokens of each prompt, start and end included, padding not

    def select(self, rows: Tensor) -> "Text":
        """The embeddings of some samples, by index or mask."""
        return Text(*(field[rows] for field in self))


class Place(NamedTuple):
    """Which cross-attention is being computed."""

    layer: str  # its name in the network
    section: Literal["down", "mid", "up"]
    branch: Literal["uncond", "cond"]


class AttentionEdit(Protocol):
    """A change to cross-attention before its softmax."""

    def __call__(self, logits: Tensor, text: Text, place: Place) -> Tensor:
        """Logits (B, heads, queries, tokens) of one branch, changed, same shape."""
        ...


class TextDenoiser(Protocol):
    """A denoiser whose conditioning can be exchanged. Gradients flow where autograd is on."""

    @property
    def text(self) -> Text:
        """The embeddings bound to it."""
        ...

    def __call__(self, x: Tensor, level: Level, needs: Needs) -> Prediction:
        """Noise predictions (B, *S), as any `Denoiser`."""
        ...

    def select(self, rows: Tensor) -> "TextDenoiser":
        """The denoiser of some samples of the batch, by index."""
        ...

    def with_text(self, text: Text) -> "TextDenoiser":
        """The same network with other embeddings bound to it."""
        ...

    def with_attention(self, edit: AttentionEdit) -> "TextDenoiser":
        """The same network whose cross-attention is changed by `edit`, after earlier edits."""
        ...


class TextModel(Protocol):
    """What is around the network: prompts to embeddings, latents to pictures."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The text of every token a random word may be; special tokens are left out."""
        ...

    @property
    def pads_with_end(self) -> bool:
        """Whether prompts are filled up with their end token, as in Stable Diffusion 1."""
        ...

    def embed(self, prompts: Sequence[str], pad: str | None = None) -> Text:
        """Embeddings of prompts; padded with the token `pad` instead of the tokenizer's own."""
        ...

    def pictures(self, latents: Tensor) -> Tensor:
        """Clean latents (B, *S) to pictures (B, 3, H, W) in [-1, 1]; gradients flow."""
        ...
