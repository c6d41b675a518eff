"""Hashes of settings, files and weights, which key caches and runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class HasWeights(Protocol):
    """A torch module, or another object with weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return all weights and buffers by name."""
        ...


def content_key(recipe: Any) -> str:
    """Hash plain values (numbers, strings, lists, dicts with string keys) by sha256."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hash a file's content by sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(*tensors: Tensor) -> str:
    """sha256 of the shapes and numbers of tensors, in their order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        _take_in(digest, tensor)
    return digest.hexdigest()


def weights_fingerprint(*modules: HasWeights) -> str:
    """Hash class names and all weights and buffers of the modules, in order, by sha256."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(type(module).__qualname__.encode())
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} ".encode())
            _take_in(digest, tensor)
    return digest.hexdigest()


def _take_in(digest: Any, tensor: Tensor) -> None:
    import torch  # here, because processes that only read photos have no use for it

    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(plain.view(torch.uint8).numpy().tobytes())
