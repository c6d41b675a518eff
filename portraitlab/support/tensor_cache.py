"""Cache computed tensors in files that are named by a hash of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraitlab.support.hashes import content_key
from portraitlab.support.lock import locked


def cached_tensors(
    folder: Path, recipe: Sequence[str], compute: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Read the tensors of a recipe from a file in `folder`, or compute and write them.

    recipe: a readable name, then hashes and settings that determine the tensors. The file is
    written all or nothing; of several processes that need it one computes and the others wait.
    Raises ValueError where the file is damaged.
    """
    path = folder / f"{recipe[0]}-{content_key(list(recipe))[:24]}.safetensors"
    with locked(path) if not path.exists() else nullcontext():
        if not path.exists():  # another process may have made it meanwhile
            tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
            unfinished = path.with_name(f"unfinished-{path.name}")
            try:
                save_file(tensors, unfinished)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"The cached {folder.name} {path} cannot be read ({error}). "
            "Delete the file and run again: it will be made anew."
        ) from error
