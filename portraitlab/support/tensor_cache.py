"""Cache computed tensors in files that are named by a hash of the inputs and checked by a sum."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor

from portraitlab.support.files import DamagedFile
from portraitlab.support.hashes import content_key, tensors_digest
from portraitlab.support.lock import locked
from portraitlab.support.tensor_files import write_tensors

_Content = TypeVar("_Content")

_LOG = logging.getLogger(__name__)


def cached(path: Path, read: Callable[[Path], _Content], make: Callable[[Path], None]) -> _Content:
    """Read a cached file or folder; where it is missing or damaged, make it first.

    read: raises DamagedFile. make: writes the content at the path that it is given, which is then
    renamed, so that nothing incomplete is ever at `path`. Of several processes that need it one
    makes it and the others wait.
    """
    if path.exists():
        with suppress(DamagedFile):
            return read(path)
    with locked(path):
        if path.exists():  # another process may have made it meanwhile
            try:
                return read(path)
            except DamagedFile:
                _LOG.warning("%s is damaged and is made again", path)
                _remove(path)
        unfinished = path.with_name(f"unfinished-{path.name}")
        _remove(unfinished)  # of a process that was killed
        try:
            make(unfinished)
            unfinished.replace(path)
        finally:
            _remove(unfinished)
    return read(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def cached_tensors(
    folder: Path, recipe: Sequence[str], compute: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Read the tensors of a recipe from a file in `folder`, or compute and write them.

    recipe: a readable name, then hashes and settings that determine the tensors.
    """

    def make(path: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
        write_tensors(tensors, path, {"sum": _sum(tensors)})

    return cached(folder / f"{named(recipe)}.safetensors", _read_tensors, make)


def named(recipe: Sequence[str]) -> str:
    """Name a recipe by its readable first part and a hash of all parts."""
    return f"{recipe[0]}-{content_key(list(recipe))[:24]}"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = (file.metadata() or {}).get("sum") == _sum(tensors)
    except (SafetensorError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path} cannot be read ({error})") from error
    if not whole:
        raise DamagedFile(f"{path} has other content than was written")
    return tensors


def _sum(tensors: Mapping[str, Tensor]) -> str:
    names = sorted(tensors)
    return content_key([names, tensors_digest(*(tensors[name] for name in names))])
