"""Choose references by a hand-written file (HiFi-Portrait, Table 5, row "manual")."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from portraitlab.method.select.selection import Selection
from portraitlab.support.checks import first_error
from portraitlab.support.hashes import file_digest
from portraitlab.types import Candidates


class ManualReference(Selection):
    """Choose the first photo in a file's list that is among the references.

    file: YAML of lines `identity: {target's photo: [photos, best first]}`, as task=choose drafts
    it; a list, so that one file covers every number of references. digest: the file's digest_of. It
    is part of the scoring's key, so that a changed file is another scoring.

    Raises ValueError where the file is missing, has another digest or is not of this form.
    """

    def __init__(self, file: str, digest: str) -> None:
        self.file = Path(file).expanduser()
        if not self.file.is_file():
            raise ValueError(
                f"select.file={file} is not a file; task=choose drafts one and shows the photos to "
                "choose from"
            )
        found = digest_of(self.file)
        if digest != found:
            raise ValueError(
                f"select.digest={digest}, but {file} has {found}; give select.digest={found} to "
                "score by its present content"
            )
        self.ranked = read_choices(self.file)

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return indices [B] in 0..N-1.

        Raises ValueError where the file names none of a sample's references.
        """
        people = zip(
            candidates.identities,
            candidates.target_photos,
            candidates.photos,
            candidates.mask.tolist(),
            strict=True,
        )
        return torch.tensor([self._best(*person) for person in people])

    def _best(self, identity: str, target: str, photos: Sequence[str], mask: list[bool]) -> int:
        there = {photo: index for index, photo in enumerate(photos) if mask[index]}
        for photo in self.ranked.get(identity, {}).get(target, []):
            if photo in there:
                return there[photo]
        raise ValueError(
            f"{self.file} names no reference for the target {target} of identity {identity}; its "
            f"references are {', '.join(there)}: add a line `{identity}: {{{target}: "
            f"[{', '.join(there)}]}}`, best first (task=choose shows them)"
        )


def digest_of(file: Path) -> str:
    """Return `sha256:` and the first twelve digits, which YAML never reads as a number."""
    return f"sha256:{file_digest(file)[:12]}"


def read_choices(path: Path) -> dict[str, dict[str, list[str]]]:
    """Read photos, best first, by identity and target's photo.

    Raises ValueError where the file is not of this form.
    """
    try:
        # The base loader reads every name as text, even 007.
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
        return _CHOICES.validate_python(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}); correct it there") from error
    except ValidationError as error:
        raise ValueError(
            f"{path}: {first_error(error)}; each line must be "
            "`identity: {target's photo: [photos, best first]}`"
        ) from error


_CHOICES = TypeAdapter(dict[str, dict[str, list[str]]])
