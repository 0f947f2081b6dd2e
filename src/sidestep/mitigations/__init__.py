"""Changes to prompt, embeddings, first noise, attention or predictions; one paper, one file.

Needs torch and nothing else.
"""

from sidestep.mitigations.base import (
    Mitigation,
    Outcome,
    Start,
    Unfit,
    begin,
)
from sidestep.mitigations.text import AttentionEdit, Place, Text, TextDenoiser, TextModel

__all__ = [
    "AttentionEdit",
    "Mitigation",
    "Outcome",
    "Place",
    "Start",
    "Text",
    "TextDenoiser",
    "TextModel",
    "Unfit",
    "begin",
]
