"""Find the model files that users download, with their sources and licences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.faces.face3d.arrays import read_arrays
from portraitlab.support.weights import is_pointer


@dataclass(frozen=True)
class BroughtFile:
    """A file that is not shipped. names: accepted names; the first one found is used."""

    names: tuple[str, ...]
    source: str
    licence: str


def find_files(root: str, files: Sequence[BroughtFile]) -> list[Path]:
    """Find each of the files in the folder `root`.

    Raises ValueError that lists all files that are missing or only Git LFS pointers, with their
    sources and licences.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"face3d.root={root} is no folder; give the folder of the 3DMM's files.")
    found, missing = [], []
    for file in files:
        there = [folder / name for name in file.names if (folder / name).is_file()]
        whole = [path for path in there if not is_pointer(path)]
        if whole:
            found.append(whole[0])
            continue
        remedy = "; only a Git LFS pointer is there, fetch it with `git lfs pull`" if there else ""
        missing.append(f"\n  {' or '.join(file.names)}: {file.source}; {file.licence}{remedy}")
    if missing:
        raise ValueError(
            f"face3d.root={root} is missing files that you have to download (see docs/face3d.md):"
            + "".join(missing)
        )
    return found


def tensors_of(path: Path, names: Sequence[str]) -> list[Tensor]:
    """Read arrays of a file by name, floats in single precision and integers as long.

    Raises ValueError where the file cannot be read or does not have all of them.
    """
    arrays = read_arrays(path)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}, only {', '.join(sorted(arrays))}; "
            "it is not the published file."
        )
    return [_tensor(arrays[name]) for name in names]


def _tensor(array: NDArray[np.generic]) -> Tensor:
    kind = np.float32 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
