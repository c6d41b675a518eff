"""Photos prepared by `portraitlab data prepare`, mapped from disk: training runs no encoder."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.heldout import HeldOutSource, check_identities
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.prepare.layout import (
    Finished,
    read_about,
    shard_file,
    store_settings,
    training_overrides,
)
from portraitlab.data.prepare.validate import LEAST
from portraitlab.data.table import ShardTable
from portraitlab.support.files import read_json
from portraitlab.support.hashes import content_key
from portraitlab.support.printing import shell_word


class PreparedPhotos(Photos):
    """The P photos of a prepared store, sorted by identity and then by file name.

    Attributes: `folder`, and the `settings` and `overrides` that it was prepared with. Raises
    ValueError if the store is unfinished, of another format or damaged; each row is checked when it
    is first read.
    """

    def __init__(self, folder: Path) -> None:
        # Check that the store is complete and of this format.
        about = read_about(folder)
        finished = read_json(folder / "finished.json", Finished)
        if about is None:
            raise ValueError(
                f"data.root={folder} holds no prepared photos (no about.json); make them with "
                f"`portraitlab data prepare PHOTOS {shell_word(folder)}`."
            )
        if finished is None:
            raise ValueError(
                f"The photos in {folder} are not all prepared yet. Run the same `portraitlab data "
                "prepare` again to resume."
            )
        # Map all shards, and compare their rows with the recorded counts.
        self.folder = folder
        self.settings = about["settings"]
        self.overrides: list[str] = about["overrides"]
        shards = range(finished["photo_shards"]), range(finished["caption_shards"])
        table = ShardTable(
            (shard_file(folder, "photos", n) for n in shards[0]), sort=("identity", "name")
        )
        captions = ShardTable(shard_file(folder, "captions", n) for n in shards[1])
        # The empty prompt is no caption of a photo.
        for kind, found in (("photos", len(table)), ("captions", len(captions) - 1)):
            if found != finished[kind]:
                raise ValueError(
                    f"{folder} has {found} {kind}, not {finished[kind]}. So a file is of another "
                    "one: prepare into another folder."
                )
        if not len(table):
            raise ValueError(
                f"{folder} holds no photos, since none could be used; see {folder}/problems.txt."
            )
        super().__init__(table, captions, self.settings["size"], self.settings["view_size"])

    def features(self) -> FeatureStore:
        """Return the features that the frozen models computed, mapped from disk."""
        return FeatureStore.of(self.table.columns(), self.captions.columns())

    def digest(self) -> str:
        """Return a sha256 of the photos, the settings and the order of rows.

        Features are not read for it: files, captions and settings determine them.
        """
        files = b"".join(self.table.chunks("digest").to_pylist())
        content = [self.settings, self.identity, self.captions.all("caption")]
        digest = hashlib.sha256(content_key(content).encode() + files)
        assert self.table.order is not None
        digest.update(self.table.order.tobytes() + self.caption_index.numpy().tobytes())
        return digest.hexdigest()


class PreparedData(HeldOutSource):
    """The photos of a store made by `portraitlab data prepare`, as data=folder gives them.

    root: the store's folder. settings: see HeldOutSource; minimum_side and matting must be those
    that the store was prepared with, and an export keeps them.

    Raises ValueError if the store is missing, unfinished or damaged, was prepared with other frozen
    models, another matting or another minimum_side, or has fewer than two identities with two
    photos.
    """

    def __init__(self, root: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.photos = PreparedPhotos(Path(root).expanduser())
        counts = Counter(self.photos.identity)
        self._counts = {name: count for name, count in counts.items() if count >= LEAST}
        remedy = f"; see {self.photos.folder}/problems.txt."
        check_identities(root, len(self._counts), remedy)
        self._all = PhotoSet(self.photos, self.photos.features(), tuple(self._counts))

    def photo_counts(self, frozen: Frozen) -> dict[str, int]:
        """Return the number of photos of each identity with two or more."""
        return self._counts

    def all_photos(self, frozen: Frozen) -> PhotoSet:
        """Return all photos, of a store that was prepared with these models and settings."""
        wanted = store_settings(frozen, self.matting, self.minimum_side)
        other = [name for name in wanted if wanted[name] != self.photos.settings[name]]
        if other:
            by = " ".join(training_overrides(self.photos.overrides)) or "the default choices"
            raise ValueError(
                f"data.root={self.photos.folder} was prepared with another {', '.join(other)}, by "
                f"{by}. Choose the same, or prepare the photos with what is chosen now."
            )
        return self._all

    def digest(self) -> str:
        """Return a sha256 of the store's photos; photos being added do not change it."""
        return self.photos.digest()
