"""Weights that others publish: found on this machine, never fetched without being asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_POINTER = b"version https://git-lfs"


class MissingPublished(ValueError):
    """Published files that are not on this machine, or not whole."""


@dataclass(frozen=True)
class Published:
    """Files of one repository of the Hugging Face hub, at one revision.

    setting: of the configuration, that can name a folder with these files instead.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    gigabytes: float
    licence: str
    setting: str

    @property
    def command(self) -> str:
        """What fetches the files, and nothing else."""
        return f"hf download {self.repository} {' '.join(self.files)} --revision {self.revision}"


def find_published(wanted: Sequence[tuple[Published, str | None]]) -> list[Path]:
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


def _cached(published: Published) -> Path | None:
    """The folder of the revision in the hub's cache, where its files may not all be."""
    from huggingface_hub import try_to_load_from_cache

    for name in published.files:
        path = try_to_load_from_cache(published.repository, name, revision=published.revision)
        if isinstance(path, str):
            return Path(path.removesuffix(name))
    return None


def _lacks(path: Path) -> bool:
    """Whether a file is not there, or only the pointer of a download that was not completed."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _description(published: Published, folder: str | None, lacking: Sequence[str]) -> str:
    where = "" if folder is None else f" in {published.setting}={folder}"
    what = "all of it" if len(lacking) == len(published.files) else ", ".join(lacking)
    return (
        f"\n  {published.repository}, revision {published.revision}\n"
        f"    missing{where}: {what}\n"
        f"    {published.gigabytes:.2g} GB in all, licence {published.licence}\n"
        f"    fetch:  {published.command}\n"
        f"    or give a folder that has them: {published.setting}=FOLDER"
    )
