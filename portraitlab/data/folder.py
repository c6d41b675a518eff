"""Real photos: a folder with one subfolder of photos for each identity."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from rich.progress import track

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.heldout import HeldOutSource, check_identities
from portraitlab.data.photo import UnusablePhoto, read_photo, require_verdict
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.prepare.listing import (
    Problem,
    check_root,
    identity_folders,
    list_identity,
    no_photos,
    stray_files,
)
from portraitlab.data.prepare.reading import inspect_file
from portraitlab.data.prepare.validate import LEAST, too_few
from portraitlab.data.store import cached_photos
from portraitlab.data.usable import usable_portrait
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.support.hashes import content_key

_LOG = logging.getLogger(__name__)

_KINDS = ("photo ", "identity ", "file ")
"""The first words of lines about what is left out, by kind."""


class FolderData(HeldOutSource):
    """Photos in `root/<identity>/`, read, checked and cut to portraits once, then cached.

    The encoder must find exactly one face in a photo, and no two photos may be the same file. The
    caption of a photo is in a text file of the same name; other photos get `caption`. A photo that
    cannot be used is left out, and a line in the log names it and the reason.

    settings: see HeldOutSource.

    Raises ValueError if the folder is missing, has no identity folders, or has fewer than two
    identities with two usable photos.
    """

    def __init__(
        self, cache: str, root: str, caption: str = "a photo of a person", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.cache = Path(cache)
        self.root = Path(root).expanduser()
        check_root(self.root, "data.root=")
        self.caption = caption
        # Training and scoring share the photos of one set of frozen models.
        self._portraits = lru_cache(maxsize=1)(self._read)
        self._encoded = lru_cache(maxsize=1)(self._encode)

    def digest(self) -> str:
        """Return a sha256 of the files' names, contents and captions, as first listed."""
        return content_key(_content_of(self._listed[0]))

    @cached_property
    def _listed(self) -> tuple[list[_File], list[str]]:
        return _list_files(self.root, self.caption)

    def photo_counts(self, frozen: Frozen) -> Counter[str]:
        """Return the number of usable photos of each identity with two or more."""
        return Counter(self._portraits(frozen).identity)

    def all_photos(self, frozen: Frozen) -> PhotoSet:
        """Return all usable photos with their features."""
        return self._encoded(frozen)

    def _encode(self, frozen: Frozen) -> PhotoSet:
        store = self._portraits(frozen)
        features = FeatureStore.cached(self.cache, store, frozen)
        return PhotoSet(store, features, tuple(sorted(set(store.identity))))

    def _read(self, frozen: Frozen) -> Photos:
        """Read all usable photos, or open them in the cache."""
        # List the files; their content and the settings name the cached store.
        files, strays = self._listed
        left_out = [*strays]
        if not files:
            raise ValueError(f"data.root={self.root} {no_photos(self.root)}.")
        size, view_size = frozen.backbone.image_size, frozen.encoder.image_size
        recipe = {
            "source": "folder", "encoder": frozen.encoder.fingerprint,
            "minimum_side": self.minimum_side,
            "photos": _content_of(files),
        }  # fmt: skip
        if self.matting.fingerprint:  # keeps the key of photos cached without matting
            recipe["matting"] = self.matting.fingerprint
        # Read the photos, unless they are cached, and report what was left out.
        walk = self._walk(files, frozen.encoder, size, left_out)
        store = cached_photos(self.cache, recipe, size, view_size, walk, left_out)
        _report(store.left_out)
        counts = [sum(line.startswith(kind) for line in store.left_out) for kind in _KINDS]
        _LOG.info(
            "%s: %d photos of %d identities taken; left out: %d photos, %d identities, %d others",
            self.root, len(store), len(set(store.identity)), *counts,
        )  # fmt: skip
        return store

    def _walk(
        self, files: list[_File], encoder: FaceEncoder, size: int, left_out: list[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the usable photos of identities with two or more; add lines to `left_out`."""
        usable: dict[str, list[dict[str, Any]]] = {name: [] for name in identity_folders(self.root)}
        # Cut a portrait from each photo, once for identical files.
        seen: dict[str, str] = {}
        for file in track(files, description="Reading photos"):
            try:
                if file.digest in seen:
                    raise UnusablePhoto(f"is the same file as {seen[file.digest]}")
                usable[file.path.parent.name].append(self._portrait(file, encoder, size))
                seen[file.digest] = file.name
            except UnusablePhoto as error:
                left_out.append(f"photo {file.name}: {error}")
        # Leave out identities with a single usable photo.
        for identity in [name for name, photos in usable.items() if len(photos) < LEAST]:
            text = too_few(len(usable.pop(identity)))
            left_out.append(str(Problem("identity", identity, text)))
        if len(usable) < 2:
            _report(left_out)
        why = f"; left out were {len(left_out)}, first {left_out[0]}" if left_out else ""
        check_identities(self.root, len(usable), f"{why}. Add photos.")
        for photos in usable.values():
            yield from photos

    def _portrait(self, file: _File, encoder: FaceEncoder, size: int) -> dict[str, Any]:
        """Read a photo and cut its portrait.

        Raises UnusablePhoto with the reason if the photo cannot be used, and ValueError if the
        system cannot read it: the cache stores verdicts on photos.
        """
        try:
            photo = read_photo(file.path)
        except UnusablePhoto as error:
            require_verdict(file.path, error)
            raise
        portrait = usable_portrait(photo, encoder, self.matting, self.minimum_side)
        return {
            "identity": file.path.parent.name,
            "name": file.path.name,
            "caption": file.caption,
            **portrait.columns(size),
        }


@dataclass(frozen=True)
class _File:
    """A file that should be a photo; `digest` is the sha256 of its bytes."""

    path: Path
    digest: str
    caption: str

    @property
    def name(self) -> str:
        """The file's name after its identity's."""
        return f"{self.path.parent.name}/{self.path.name}"


def _content_of(files: list[_File]) -> list[list[str]]:
    """List name, digest and caption of each file: all that determines a photo."""
    return [[file.name, file.digest, file.caption] for file in files]


def _list_files(root: Path, caption: str) -> tuple[list[_File], list[str]]:
    """List all files but captions and hidden ones, and lines about files that are left out."""
    files: list[_File] = []
    problems = [*stray_files(root)]
    for identity in identity_folders(root):
        listing = list_identity(root, identity)
        problems += listing.problems
        for path in listing.photos:
            info = inspect_file(path)
            if isinstance(info, str):
                problems.append(Problem("photo", f"{identity}/{path.name}", info))
            else:
                files.append(_File(path, info.digest.hex(), info.caption or caption))
    return files, [*map(str, problems)]


def _report(lines: tuple[str, ...] | list[str]) -> None:
    for line in lines:
        _LOG.warning("left out: %s", line)
