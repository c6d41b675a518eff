"""Word tokenizer over the closed vocabulary of captions and descriptions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from portraitlab.world.caption import COVER_WORDS, FEATURE_WORDS, SKIN_WORDS
from portraitlab.world.identity import BEARDS, EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES
from portraitlab.world.mesh import EXPRESSION_NAMES
from portraitlab.world.settings import BACKGROUNDS, CLOTHES, COLOURS, LIGHTS, PATTERNS, STYLES

PAD, START, UNKNOWN, END = 0, 1, 2, 3
"""Numbers of the special tokens.

transformers' CLIP pools at the end token, but if that is 2, at the highest token, which is the end
in OpenAI's vocabulary and the first comma in this one.
"""
_PHRASES = (
    *COLOURS, *CLOTHES, *PATTERNS, *BACKGROUNDS, *STYLES, *LIGHTS, *HAIR_COLOURS, *HAIR_STYLES,
    *EYE_COLOURS, *BEARDS, *SKIN_WORDS, *EXPRESSION_NAMES, "a of person in background and round",
    "square glasses light skin hair eyes mole freckles calm turned left right frontal , ",
    "sunglasses blurred makeup birthmark scar", *COVER_WORDS.values(),
    *(word for pair in FEATURE_WORDS.values() for word in pair),
)  # fmt: skip


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z-]+|,", text.lower())


VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys(w for phrase in _PHRASES for w in _words(phrase)))
CANVAS_VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *VOCABULARY,
            *_words("half full body group two three four on the left in middle far right"),
        ]
    )
)
"""VOCABULARY, then the words for bodies and groups, so that trained word embeddings keep their
rows."""


class WordTokenizer:
    """A tokenizer from texts to padded tokens [B, length], one a word; surplus words are cut."""

    def __init__(self, length: int, vocabulary: Sequence[str] = VOCABULARY) -> None:
        self.length = length
        self._index = {word: number for number, word in enumerate(vocabulary, start=END + 1)}

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self._index) + END + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token numbers [B, length] of texts."""
        rows = torch.full((len(texts), self.length), PAD)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self._index.get(word, UNKNOWN) for word in _words(text)][: self.length - 2]
            row[: len(numbers) + 2] = torch.tensor([START, *numbers, END])
        return rows

    def cut(self, text: str) -> str:
        """Return the words of a text that are cut."""
        return " ".join(_words(text)[self.length - 2 :])
