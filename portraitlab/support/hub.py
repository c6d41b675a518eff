"""Models of the Hugging Face hub: found on this machine, never fetched without being asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from portraitlab.support.weights import is_pointer

_VARIANT = re.compile(r"\.[^./]+(?=\.safetensors$)")
"""Of a file's name, as diffusers writes it: `unet/diffusion_pytorch_model.fp16.safetensors`."""


class MissingPublished(ValueError):
    """Published files that are not on this machine, or not whole."""


@dataclass(frozen=True)
class Repository:
    """Files of one repository of the Hugging Face hub, at one revision.

    setting: of the configuration, that can name a folder with these files instead; several are
    divided by spaces.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    gigabytes: float
    licence: str
    setting: str

    def __add__(self, other: Repository) -> Repository:
        """The files that two parts of a program read of one repository at one revision."""
        assert (self.repository, self.revision) == (other.repository, other.revision)
        files = tuple(dict.fromkeys((*self.files, *other.files)))
        settings = dict.fromkeys((*self.setting.split(), *other.setting.split()))
        return replace(self, files=files, setting=" ".join(settings))

    def in_variant(self, variant: str | None, folder: str | None) -> Repository:
        """With another variant of those files that have one; None is the plain ones.

        folder: of the user; of what it has plain alone the plain file is taken, as read_model does.
        """

        def lies(name: str) -> bool:
            return folder is not None and (Path(folder).expanduser() / name).is_file()

        def chosen(name: str) -> str:
            plain = _VARIANT.sub("", name)
            if variant is None or plain == name:
                return plain
            wanted = f"{plain.removesuffix('.safetensors')}.{variant}.safetensors"
            return plain if lies(plain) and not lies(wanted) else wanted

        files = tuple(map(chosen, self.files))
        larger = 2 if variant is None and files != self.files else 1  # singles instead of halves
        return replace(self, files=files, gigabytes=larger * self.gigabytes)

    @property
    def command(self) -> str:
        """What fetches the files, and nothing else."""
        return f"hf download {self.repository} {' '.join(self.files)} --revision {self.revision}"


def describes_repository(settings: Any) -> bool:
    """Whether a part of a configuration is what a Repository is built of."""
    target = f"{Repository.__module__}.{Repository.__qualname__}"
    return isinstance(settings, Mapping) and settings.get("_target_") == target


def folder_setting(name: str) -> str:
    """What is called beside published `weights`, under any prefix, what names a folder of them."""
    return name.removesuffix("weights") + "folder"


def find_published(wanted: Sequence[tuple[Repository, str | None]]) -> list[Path]:
    """The folder of each, in which its files lie by their names.

    wanted: what, and a folder that the user has given for it; None looks into the hub's cache,
    where `hf download` puts what it fetches. Raises MissingPublished, with all that is missing and
    how to get it, where anything is.
    """
    found, missing = [], []
    for published, folder in wanted:
        place = _cached(published) if folder is None else Path(folder).expanduser()
        lacking = [name for name in published.files if place is None or _lacks(place / name)]
        if lacking:
            missing.append(_description(published, folder, lacking))
        if place is not None:
            found.append(place)
    if missing:
        raise MissingPublished(
            "Published weights are not on this machine; nothing is fetched unasked.\n"
            + "\n".join(missing)
        )
    return found


def read_model(
    kind: Any, folder: Path, as_stored: bool = False, variant: str | None = None, **how: Any
) -> Any:
    """A model of diffusers or transformers with the safetensors weights of a folder, all of them.

    kind: its class. as_stored: of diffusers, in the precision of the files, where that is one;
    False would have halves of a large model in memory as wholes. variant: of the files, where the
    folder has it; the plain ones else. how: what its from_pretrained takes besides. Raises
    ValueError where a file is damaged, or lacks weights, which both libraries would fill with
    random ones.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    if variant is not None and not any(folder.glob(f"*.{variant}.safetensors")):
        variant = None
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # of a model's other parts in the same file each tensor is told
    logging.disable_progress_bar()  # which takes less than a second
    try:
        if as_stored:
            how["torch_dtype"] = _stored_precision(folder, variant)
        model, told = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            **how,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ValueError(
            f"The weights in {folder} cannot be read as a {kind.__name__} ({reason}). Delete the "
            "damaged file and fetch it again, or give another folder."
        ) from error
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    wrong = [*told["missing_keys"], *told.get("mismatched_keys", [])]
    if wrong:
        raise ValueError(
            f"The weights in {folder} are not those of a {kind.__name__}: {len(wrong)} are missing "
            f"or of another shape, first {wrong[0]}. Fetch them again, or give another folder."
        )
    return model


def _stored_precision(folder: Path, variant: str | None) -> torch.dtype | None:
    """That of all of diffusers' weights in a folder, by the files' headers; None: of several."""
    name = "diffusion_pytorch_model" if variant is None else f"diffusion_pytorch_model.{variant}"
    found = set()
    for ending in (".safetensors", "-*.safetensors"):  # in one file or several
        for path in folder.glob(name + ending):
            with safe_open(path, framework="pt") as file:
                found |= {file.get_slice(each).get_dtype() for each in file.keys()}  # noqa: SIM118
    kinds = {"F16": torch.float16, "BF16": torch.bfloat16}
    return kinds.get(found.pop()) if len(found) == 1 else None


def _cached(published: Repository) -> Path | None:
    """The folder of the revision in the hub's cache, where its files may not all be."""
    from huggingface_hub import try_to_load_from_cache

    for name in published.files:
        path = try_to_load_from_cache(published.repository, name, revision=published.revision)
        if isinstance(path, str):
            return Path(path.removesuffix(name))
    return None


def _lacks(path: Path) -> bool:
    """Whether a file is not there, is empty, or only the pointer of a download."""
    return not path.is_file() or path.stat().st_size == 0 or is_pointer(path)


def _description(published: Repository, folder: str | None, lacking: Sequence[str]) -> str:
    where = "" if folder is None else f" in {published.setting}={folder}"
    settings = " ".join(f"{setting}=FOLDER" for setting in published.setting.split())
    what = "all of it" if len(lacking) == len(published.files) else ", ".join(lacking)
    if folder is not None and any((Path(folder).expanduser() / name).is_file() for name in lacking):
        what += " (Git LFS pointers instead of files: the download was not completed)"
    return (
        f"\n  {published.repository}, revision {published.revision}\n"
        f"    missing{where}: {what}\n"
        f"    {published.gigabytes:.2g} GB in all, licence {published.licence}\n"
        f"    fetch:  {published.command}\n"
        f"    or give a folder that has them: {settings}"
    )
