"""Tokenizers that convert prompts to token numbers for CLIP's text encoders."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTokenizer

_START, _END = 49406, 49407
_LENGTH = 77
"""Tokens that the text encoders read, including start and end."""


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Read the published tokenizer in a folder. Raises ValueError where its files are damaged."""
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises a plain Exception for a damaged file
        raise ValueError(
            f"The tokenizer in {folder} cannot be read ({str(error).splitlines()[0]}). Fetch its "
            "files again, or give another folder."
        ) from error


class ClipTokens:
    """A published tokenizer that truncates and pads prompts to 77 tokens."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, prompts: list[str]) -> Tensor:
        """Convert prompts to token numbers [B, 77] on the CPU."""
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=_LENGTH, truncation=True, return_tensors="pt"
        )
        return tokens.input_ids

    def cut(self, prompt: str) -> str:
        """Return the words that are truncated, from the first that does not fit completely."""
        tokens = self.tokenizer(
            prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        left_out = tokens.offset_mapping[_LENGTH - 2 :]
        return prompt[prompt.rfind(" ", 0, left_out[0][0] + 1) + 1 :] if left_out else ""


class WordNumbers:
    """A stand-in tokenizer for text encoders with random weights: a hash for each word.

    pad: the padding token.
    """

    def __init__(self, pad: int = _END) -> None:
        self.pad = pad

    def __call__(self, prompts: list[str]) -> Tensor:
        """Convert prompts to token numbers [B, 77] on the CPU."""
        rows = []
        for prompt in prompts:
            words = [zlib.crc32(word.encode()) % _START for word in prompt.lower().split()]
            row = [_START, *words[: _LENGTH - 2], _END]
            rows.append(row + [self.pad] * (_LENGTH - len(row)))
        return torch.tensor(rows, device="cpu")

    def cut(self, prompt: str) -> str:
        """Return the words that are truncated."""
        return " ".join(prompt.split()[_LENGTH - 2 :])
