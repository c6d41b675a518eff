"""Photos prepared by `portraitlab data prepare`, mapped from disk: training runs no encoder."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.heldout import check_share, split
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.prepare.layout import (
    ANOTHER_FOLDER,
    About,
    Finished,
    shard_file,
    store_settings,
    training_overrides,
)
from portraitlab.data.prepare.validate import LEAST
from portraitlab.data.shards import FORMAT
from portraitlab.data.source import PhotoSource
from portraitlab.data.table import Table
from portraitlab.data.testset import Judges, TargetsOf
from portraitlab.faces.matting.base import Matting
from portraitlab.faces.matting.none import NoMatting
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
        about = read_json(folder / "about.json", About, ANOTHER_FOLDER)
        finished = read_json(folder / "finished.json", Finished)
        if about is None:
            raise ValueError(
                f"data.root={folder} holds no prepared photos (no about.json); make them with "
                f"`portraitlab data prepare PHOTOS {shell_word(folder)}`."
            )
        if about["format"] != FORMAT:
            raise ValueError(
                f"{folder} has format {about['format']}, and {FORMAT} is read; prepare the photos "
                "again into another folder."
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
        table = Table(
            (shard_file(folder, "photos", n) for n in shards[0]), sort=("identity", "name")
        )
        captions = Table(shard_file(folder, "captions", n) for n in shards[1])
        for kind, found, recorded in (
            ("photos", len(table), finished["photos"]),
            ("captions", len(captions) - 1, finished["captions"]),  # and the empty prompt
        ):
            if found != recorded:
                raise ValueError(
                    f"{folder} has {found} {kind}, not {recorded}. So a file is of another one: "
                    "prepare into another folder."
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


class PreparedData(PhotoSource):
    """The photos of a store made by `portraitlab data prepare`, as data=folder gives them.

    root: the store's folder. test_share, split_seed: choose the held-out identities, as in
    FolderData. minimum_side, matting: must be those that the store was prepared with; an export
    keeps them. targets, judges, noise_seeds, targets_of: see ScoringSet.

    Raises ValueError if the store is missing, unfinished or damaged, was prepared with other frozen
    models, another matting or another minimum_side, or has fewer than two identities with two
    photos.
    """

    def __init__(
        self,
        root: str,
        test_share: float = 0.2,
        split_seed: int = 0,
        minimum_side: int = 32,
        matting: Matting | None = None,
        targets: int = 1,
        judges: Judges = 4,
        noise_seeds: int = 1,
        targets_of: TargetsOf = "own",
        real_photos: int = 1000,
    ) -> None:
        super().__init__(targets, judges, noise_seeds, targets_of, real_photos)
        check_share(test_share)
        self.minimum_side = minimum_side
        self.matting = matting or NoMatting()
        self.photos = PreparedPhotos(Path(root).expanduser())
        counts = Counter(self.photos.identity)  # in the order of their names
        usable = [name for name, count in counts.items() if count >= LEAST]
        if len(usable) < 2:
            raise ValueError(
                f"data.root={root} has {len(usable)} identities with two usable photos and needs "
                f"two, one to train on and one to score; see {self.photos.folder}/problems.txt."
            )
        photos = PhotoSet(self.photos, self.photos.features(), tuple(usable))
        self.kept, self.held_out = split(photos, test_share, split_seed, targets)

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are not held out."""
        return self._checked(self.kept, frozen)

    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are held out."""
        return self._checked(self.held_out, frozen)

    def counts(self, frozen: Frozen) -> tuple[list[int], list[int]]:
        """Return the number of photos of each identity kept, and of each held out."""
        kept, held = (part.members().counts.tolist() for part in (self.kept, self.held_out))
        return kept, held

    def digest(self) -> str:
        """Return a sha256 of the store's photos; photos being added do not change it."""
        return self.photos.digest()

    def _checked(self, photos: PhotoSet, frozen: Frozen) -> PhotoSet:
        wanted = store_settings(frozen, self.matting, self.minimum_side)
        other = [name for name in wanted if wanted[name] != self.photos.settings[name]]
        if other:
            by = " ".join(training_overrides(self.photos.overrides)) or "the default choices"
            raise ValueError(
                f"data.root={self.photos.folder} was prepared with another {', '.join(other)}, by "
                f"{by}. Choose the same, or prepare the photos with what is chosen now."
            )
        return photos
