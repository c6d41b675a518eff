"""Write safetensors files whose permissions follow the umask, as those of all other files do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors by name, with metadata in the file's header."""
    save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    follow_umask(path)


def follow_umask(path: Path) -> None:
    """Give a file the permissions of a new one: safetensors lets its owner alone read it."""
    new = path.with_name(f".{path.name}.new")
    new.touch()
    path.chmod(new.stat().st_mode)
    new.unlink()
