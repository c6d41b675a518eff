"""Find models of the Hugging Face hub on this machine; nothing is downloaded automatically."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from portraitlab.support.printing import shell_word
from portraitlab.support.weights import is_pointer

_VARIANT = re.compile(r"\.[^./]+(?=\.safetensors$)")
"""The variant in a file's name by diffusers: `unet/diffusion_pytorch_model.fp16.safetensors`."""


class MissingPublished(ValueError):
    """Published files are not on this machine, or incomplete."""


@dataclass(frozen=True)
class Repository:
    """Files of one repository of the Hugging Face hub, at one revision.

    setting: the configuration's setting for a folder with these files; several are separated by
    spaces.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    gigabytes: float
    licence: str
    setting: str

    def __add__(self, other: Repository) -> Repository:
        """Join the files that two components read from one repository at one revision."""
        assert (self.repository, self.revision) == (other.repository, other.revision)
        files = tuple(dict.fromkeys((*self.files, *other.files)))
        settings = dict.fromkeys((*self.setting.split(), *other.setting.split()))
        return replace(self, files=files, setting=" ".join(settings))

    def in_variant(self, variant: str | None, folder: str | None) -> Repository:
        """Choose another variant of the files that have one; None chooses the plain files.

        folder: the user's folder; where it has only the plain file, that is chosen, as read_model
        does.
        """

        def exists(name: str) -> bool:
            return folder is not None and (Path(folder).expanduser() / name).is_file()

        def chosen(name: str) -> str:
            plain = _VARIANT.sub("", name)
            if variant is None or plain == name:
                return plain
            wanted = f"{plain.removesuffix('.safetensors')}.{variant}.safetensors"
            return plain if exists(plain) and not exists(wanted) else wanted

        files = tuple(map(chosen, self.files))
        larger = 2 if variant is None and files != self.files else 1  # single, not half precision
        return replace(self, files=files, gigabytes=larger * self.gigabytes)

    @property
    def command(self) -> str:
        """The command that downloads these files only."""
        words = (self.repository, *self.files, "--revision", self.revision)
        return f"hf download {' '.join(map(shell_word, words))}"


def describes_repository(settings: Any) -> bool:
    """Check whether a part of a configuration describes a Repository."""
    target = f"{Repository.__module__}.{Repository.__qualname__}"
    return isinstance(settings, Mapping) and settings.get("_target_") == target


def folder_setting(name: str) -> str:
    """Return the name of the folder's setting beside published `weights`, under any prefix."""
    return name.removesuffix("weights") + "folder"


def find_published(wanted: Sequence[tuple[Repository, str | None]]) -> list[Path]:
    """Find the folder with the files of each repository.

    wanted: repositories, each with the user's folder for it, or None for the hub's cache, where
    `hf download` saves files. Raises MissingPublished where files are missing, which lists all of
    them and how to download them.
    """
    found, missing = [], []
    for published, folder in wanted:
        place = _cached(published) if folder is None else Path(folder).expanduser()
        absent = [name for name in published.files if place is None or _is_absent(place / name)]
        if absent:
            missing.append(_description(published, folder, absent))
        if place is not None:
            found.append(place)
    if missing:
        raise MissingPublished(
            "Published weights are not on this machine; download them first.\n" + "\n".join(missing)
        )
    return found


def read_model(
    kind: Any, folder: Path, as_stored: bool = False, variant: str | None = None, **options: Any
) -> Any:
    """Read a model of diffusers or transformers with the safetensors weights of a folder.

    kind: its class. as_stored: for diffusers, keeps the files' precision, if they have only one;
    False loads half precision as single, in twice the memory. variant: variant of the files, where
    the folder has it; else the plain ones. options: more arguments of from_pretrained. Raises
    ValueError where a file is damaged or does not have all weights, which both libraries would
    initialise at random.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    # Silence transformers' report and progress bar.
    if variant is not None and not any(folder.glob(f"*.{variant}.safetensors")):
        variant = None
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # lists each tensor of a model's other parts in the same file
    logging.disable_progress_bar()  # of less than a second
    # Read the weights.
    try:
        if as_stored:
            options["torch_dtype"] = _stored_precision(folder, variant)
        model, report = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            **options,
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
    # Check that all weights were in the files.
    wrong = [*report["missing_keys"], *report.get("mismatched_keys", [])]
    if wrong:
        raise ValueError(
            f"The weights in {folder} are not those of a {kind.__name__}: {len(wrong)} are missing "
            f"or of another shape, first {wrong[0]}. Fetch them again, or give another folder."
        )
    return model


def _stored_precision(folder: Path, variant: str | None) -> torch.dtype | None:
    """Read the precision of diffusers' weights from the files' headers; None where it varies."""
    name = "diffusion_pytorch_model" if variant is None else f"diffusion_pytorch_model.{variant}"
    found = set()
    for ending in (".safetensors", "-*.safetensors"):  # in one file or several
        for path in folder.glob(name + ending):
            with safe_open(path, framework="pt") as file:
                found |= {file.get_slice(each).get_dtype() for each in file.keys()}  # noqa: SIM118
    kinds = {"F16": torch.float16, "BF16": torch.bfloat16}
    return kinds.get(found.pop()) if len(found) == 1 else None


def _cached(published: Repository) -> Path | None:
    """Find the folder of the revision in the hub's cache, which may not have all files."""
    from huggingface_hub import try_to_load_from_cache

    for name in published.files:
        path = try_to_load_from_cache(published.repository, name, revision=published.revision)
        if isinstance(path, str):
            return Path(path.removesuffix(name))
    return None


def _is_absent(path: Path) -> bool:
    """Check whether a file is missing, empty, or only a Git LFS pointer."""
    return not path.is_file() or path.stat().st_size == 0 or is_pointer(path)


def _description(published: Repository, folder: str | None, absent: Sequence[str]) -> str:
    where = "" if folder is None else f" in {published.setting}={folder}"
    settings = " ".join(f"{setting}=FOLDER" for setting in published.setting.split())
    what = "all of it" if len(absent) == len(published.files) else ", ".join(absent)
    if folder is not None and any((Path(folder).expanduser() / name).is_file() for name in absent):
        what += " (Git LFS pointers instead of files: the download was not completed)"
    return (
        f"\n  {published.repository}, revision {published.revision}\n"
        f"    missing{where}: {what}\n"
        f"    {published.gigabytes:.2g} GB in all, licence {published.licence}\n"
        f"    fetch:  {published.command}\n"
        f"    or give a folder that has them: {settings}"
    )
