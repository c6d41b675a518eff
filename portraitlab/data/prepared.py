"""Photos prepared by `portraitlab data prepare`, mapped from disk: training runs no encoder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.heldout import check_share, held_out
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.prepare.layout import (
    caption_shard,
    photo_shard,
    store_settings,
    training_overrides,
)
from portraitlab.data.prepare.shards import FORMAT, Shards, read_shard
from portraitlab.data.prepare.validate import LEAST
from portraitlab.data.rows import MappedGeometry, MappedStrings, MappedText, ReadRows
from portraitlab.data.source import PhotoSource
from portraitlab.data.store import to_tensor
from portraitlab.data.testset import Judges, TargetsOf
from portraitlab.faces.matting.base import Matting
from portraitlab.faces.matting.none import NoMatting
from portraitlab.support.files import read_json
from portraitlab.support.hashes import content_key
from portraitlab.types import FaceCoefficients


class PreparedPhotos:
    """The P photos of a prepared store by row; pixels are read and decoded on access.

    Rows are sorted by identity and then by file name, whenever they were stored. identity, name,
    caption, flawed: one value a photo. names [I], counts [I]: the identities and their numbers of
    photos. Raises ValueError if the store is unfinished, of another format or damaged.
    """

    def __init__(self, folder: Path) -> None:
        # Check that the store is complete and of this format.
        about, finished = (read_json(folder / f"{name}.json") for name in ("about", "finished"))
        if about is None:
            raise ValueError(
                f"data.root={folder} holds no prepared photos (no about.json); make them with "
                f"`portraitlab data prepare PHOTOS {folder}`."
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
        # Map the index of identities and all shards.
        self.folder = folder
        self.settings = about["settings"]
        self.overrides: list[str] = about["overrides"]
        self.size: int = self.settings["size"]
        index = read_shard(folder / "identities.arrow")
        self.names: list[str] = index["identity"].to_pylist()
        self.counts: NDArray[np.int64] = index["rows"].value_lengths().to_numpy().astype(np.int64)
        self._starts = self.counts.cumsum() - self.counts
        order: NDArray[np.int64] = index["rows"].flatten().to_numpy()
        files = [photo_shard(folder, number) for number in range(finished["photo_shards"])]
        self.photos = Shards.of(files, order)
        self.captions = Shards.of(
            caption_shard(folder, n) for n in range(finished["caption_shards"])
        )
        # Compare the rows found with the recorded counts.
        for kind, found, recorded in (
            ("photos in the index", len(order), finished["photos"]),
            ("photos", len(self.photos), finished["photos"]),
            ("captions", len(self.captions) - 1, finished["captions"]),  # and the empty prompt
        ):
            if found != recorded:
                raise ValueError(
                    f"{folder} has {found} {kind}, not {recorded}. If a preparation is just "
                    "ending, try again; otherwise a file is of another one: prepare into another "
                    "folder."
                )
        if not len(self):
            raise ValueError(
                f"{folder} holds no photos, since none could be used; see {folder}/problems.txt."
            )
        # Read strings of photos on access.
        self.caption_index = self.photos.column("caption")
        self.flawed = np.zeros(len(self), bool)  # flaws are not detected in real photos
        self.identity = MappedStrings(len(self), lambda row: self.names[self._owner(row)])
        self.name = MappedStrings(len(self), lambda row: str(self.photos.value("name", row)))
        self.caption = MappedStrings(
            len(self),
            lambda row: str(self.captions.value("caption", int(self.caption_index[row]))),
        )

    def __len__(self) -> int:
        return len(self.photos)

    def owners(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the identities' names and, for each photo [P], its identity's number."""
        return self.names, np.repeat(np.arange(len(self.names)), self.counts)

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return photos [B, 3, S, S] in [-1, 1], at the backbone's size."""
        return self._pictures("image", rows)

    def views(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return the same photos [B, 3, V, V] in [-1, 1], at the encoder's size."""
        same = self.settings["view_size"] == self.size
        return self._pictures("image" if same else "view", rows)

    def person_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S], False where a photo is known not to show the person."""
        return torch.from_numpy(self._decoded("person_mask", rows))

    def face_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S] of the faces."""
        return torch.from_numpy(self._decoded("face_mask", rows))

    def true_coefficients(self, rows: Sequence[int] | Tensor) -> FaceCoefficients:
        """Raise ValueError: real photos have no known coefficients."""
        raise ValueError(f"The prepared photos {self.folder} have no true coefficients.")

    def features(self) -> FeatureStore:
        """Return the features that the frozen models computed, mapped from disk."""
        column, text = self.photos.column, self.captions.column
        coefficients = (
            (column("shape"), column("expression"), column("pose"))
            if self.photos.has("shape")
            else None
        )
        prompts = MappedText(
            words=text("text"),
            pooled=text("pooled") if self.captions.has("pooled") else None,
            sizes=text("sizes") if self.captions.has("sizes") else None,
        )
        return FeatureStore(
            latents=column("latents"),
            person=column("person"),
            local=column("local"),
            global_=column("global"),
            identity=column("recogniser"),
            face_masks=ReadRows(self.face_masks),
            geometry=MappedGeometry(column("keypoints"), column("score"), coefficients),
            text_features=prompts,
            caption_index=self.caption_index,
            empty_text=prompts[[0]],
        )

    def digest(self) -> str:
        """Return a sha256 of the photos, the settings and the order of rows.

        Features are not read for it: files, captions and settings determine them.
        """
        assert self.photos.order is not None
        digest = hashlib.sha256()
        digest.update(content_key([self.settings, self.names, self.counts.tolist()]).encode())
        digest.update(self.photos.order.tobytes())
        for batch in self.photos.batches:
            digest.update(b"".join(batch["digest"].to_pylist()))
            digest.update(batch["caption"].to_numpy().tobytes())
        for batch in self.captions.batches:
            digest.update(content_key(batch["caption"].to_pylist()).encode())
        return digest.hexdigest()

    def _owner(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _pictures(self, name: str, rows: Sequence[int] | Tensor) -> Tensor:
        return to_tensor(self._decoded(name, rows))

    def _decoded(self, name: str, rows: Sequence[int] | Tensor) -> NDArray[np.uint8]:
        pictures = []
        for row in rows:
            with Image.open(io.BytesIO(self.photos.value(name, int(row)))) as file:
                pictures.append(np.asarray(file))
        return np.stack(pictures)


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
        self.features = self.photos.features()
        counts = zip(self.photos.names, self.photos.counts.tolist(), strict=True)
        usable = {name: count for name, count in counts if count >= LEAST}
        if len(usable) < 2:
            raise ValueError(
                f"data.root={root} has {len(usable)} identities with two usable photos and needs "
                f"two, one to train on and one to score; see {self.photos.folder}/problems.txt."
            )
        self.held_out = held_out(usable, test_share, split_seed, targets)
        held = set(self.held_out)
        self.kept = tuple(name for name in usable if name not in held)

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are not held out."""
        return self._photos(frozen, self.kept)

    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are held out."""
        return self._photos(frozen, self.held_out)

    def digest(self) -> str:
        """Return a sha256 of the store's photos; photos being added do not change it."""
        return self.photos.digest()

    def _photos(self, frozen: Frozen, identities: tuple[str, ...]) -> PhotoSet:
        wanted = store_settings(frozen, self.matting, self.minimum_side)
        other = [name for name in wanted if wanted[name] != self.photos.settings[name]]
        if other:
            by = " ".join(training_overrides(self.photos.overrides)) or "the default choices"
            raise ValueError(
                f"data.root={self.photos.folder} was prepared with another {', '.join(other)}, by "
                f"{by}. Choose the same, or prepare the photos with what is chosen now."
            )
        return PhotoSet(self.photos, self.features, identities)
