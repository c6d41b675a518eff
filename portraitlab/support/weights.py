"""Find weight files that are not shipped, check that they are whole, and read them safely."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class PublishedFile:
    """The source of a weight file, for the error where it is missing.

    what: the model. fetch: a command or an address. licence: licence of the weights, not of
    the code. size: size with its unit, e.g. "26 MB".
    """

    what: str
    fetch: str
    licence: str
    size: str

    def __str__(self) -> str:
        return f"{self.what} ({self.size}, {self.licence}): {self.fetch}"


def is_pointer(path: Path) -> bool:
    """Check whether a file is a Git LFS pointer instead of its content."""
    with path.open("rb") as file:
        return file.read(64).startswith(_POINTER)


def unreadable(path: Path, error: Exception) -> str:
    """Explain why a library could not read a file, without its advice to trust the file."""
    text = str(error)
    if path.is_file() and is_pointer(path):
        return "it is a Git LFS pointer, whose download was not completed (git lfs pull fetches it)"
    if refused := re.search(r"GLOBAL (\S+)", text):
        return f"it needs {refused[1]}"
    if "weights_only" in text or "allow_pickle" in text:
        return "it is of another kind, or contains more than plain numbers"
    return text.splitlines()[0] if text and not isinstance(error, KeyError) else repr(error)


def weights_file(given: str | None, setting: str, *published: PublishedFile) -> Path:
    """Return the path of the file that a setting names.

    Raises ValueError with the files to download where it is missing or only a Git LFS pointer.
    """
    remedy = "Download one of: " if len(published) > 1 else "Download "
    remedy += "; ".join(map(str, published)) + f". Then give {setting}=FILE."
    if given is None:
        raise ValueError(f"{setting} names no file, and these weights are not shipped. {remedy}")
    path = Path(given).expanduser()
    if not path.is_file():
        raise ValueError(f"{setting}={given} is no file. {remedy}")
    if is_pointer(path):
        raise ValueError(
            f"{setting}={given} is a Git LFS pointer of {path.stat().st_size} bytes, not weights: "
            f"the download was not completed. Fetch it with `git lfs pull`. {remedy}"
        )
    return path


def read_state_dict(path: Path, setting: str, part: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or torch file by name, floats in single precision.

    setting: the setting that names the file, for errors. part: the key of the tensors, where the
    file has more than one part. Nothing in the file is executed. Raises ValueError where it is
    damaged or has anything but tensors by name.
    """
    # Read the file.
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every kind of error for a damaged file
        raise ValueError(
            f"{setting}: {path} ({path.stat().st_size} bytes) cannot be read as weights alone: "
            f"{unreadable(path, error)}. Nothing of it was executed. Download it again "
            "(see docs/encoders.md and docs/face3d.md), or save a plain state dict."
        ) from error
    # Take the part, and check that it is a state dict.
    if part is not None:
        if not isinstance(state, dict) or part not in state:
            keys = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise ValueError(
                f"{setting}: {path} has no {part}, only {keys}; it is not the published file."
            )
        state = state[part]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"{setting}: {path} is not a state dict, but a {type(state).__name__} of other "
            "things. Save the model's state_dict() itself."
        )
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def check_alike(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str, remedy: str
) -> None:
    """Check that tensors have the names and shapes of a model's own.

    Raises ValueError, which opens with `what`, names the first difference and ends in the remedy.
    """
    wrong = [f"{name} is missing" for name in sorted(own.keys() - given.keys())]
    wrong += [f"{name} is unknown" for name in sorted(given.keys() - own.keys())]
    wrong += [
        f"{name} is {list(given[name].shape)} instead of {list(own[name].shape)}"
        for name in sorted(own.keys() & given.keys())
        if given[name].shape != own[name].shape
    ]
    if wrong:
        raise ValueError(f"{what} ({len(wrong)} differences, first: {wrong[0]}); {remedy}.")


def load_state(
    model: torch.nn.Module, state: dict[str, Tensor], setting: str, path: Path, kind: str
) -> None:
    """Load a state dict into a model, freeze it and set it to evaluation mode.

    model: may be on the device "meta". kind: its name, for errors. Raises ValueError where names or
    shapes differ.
    """
    own = model.state_dict()
    # Batch norms of old versions of torch have no num_batches_tracked.
    counts = {name: torch.tensor(0) for name in own if name.endswith("num_batches_tracked")}
    state = counts | state
    check_alike(own, state, f"{setting}: {path} is no {kind}", "give the published state dict")
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)


def check_unpacked(archive: zipfile.ZipFile, path: Path, most: int) -> None:
    """Raise ValueError where the content of a zip takes more than `most` bytes, before reading."""
    content = sum(member.file_size for member in archive.infolist())
    if content > most:
        raise ValueError(
            f"the content of {path} takes {content / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB is the "
            "limit; get the file from its publisher."
        )
