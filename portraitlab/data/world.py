"""The source of rendered photos of the miniature world."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count, product, repeat
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.source import PhotoSource
from portraitlab.data.store import cached_photos
from portraitlab.data.testset import Judges, RealPhotos, ScoringSet, TargetsOf
from portraitlab.world import render
from portraitlab.world.pool import rendering_pool
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES, LOOK_ALIKES

_NO_PIXELS = ("pretrained", "pool", "sheet", "splits", "tokenizer")
"""Modules beside the renderer that do not affect pixels."""


class WorldData(PhotoSource):
    """Photos of synthetic people, rendered once by several processes and cached.

    identities and photos_per_identity: to train on. score_identities and score_photos: to score
    on. split: of the scored people: "development" (to choose settings on) or "test" (for tables),
    or one of the two with `_look_alikes`, whose people differ in details only; no two splits share
    an identity. workers: rendering processes; 0 renders in the main process. cache: folder for
    photos and features. targets, judges, noise_seeds, targets_of: see ScoringSet. real_photos:
    number of further people of the split, with one photo each, that FID compares with; fewer if the
    split has fewer.

    Raises ValueError if the split is unknown or has too few identities, or if there are too few
    photos for a target, a reference and (when scoring) a judge.
    """

    def __init__(
        self,
        cache: str,
        identities: int,
        photos_per_identity: int,
        score_identities: int,
        score_photos: int,
        split: str = "development",
        targets: int = 2,
        judges: Judges = 4,
        noise_seeds: int = 1,
        targets_of: TargetsOf = "own",
        real_photos: int = 1000,
        workers: int = 2,
    ) -> None:
        super().__init__(targets, judges, noise_seeds, targets_of, real_photos)
        splits = [name + kind for name in ("development", "test") for kind in ("", LOOK_ALIKES)]
        if split not in splits:
            raise ValueError(f"data.split={split!r} is unknown; choose {' or '.join(splits)}.")
        for name, value, least in (
            ("photos_per_identity", photos_per_identity, 2),
            ("score_photos", score_photos, 3),
        ):
            if value < least:
                raise ValueError(f"data.{name}={value} must be at least {least}.")
        self.cache = Path(cache)
        self.workers = workers
        self._train = self._seeds("identities", identities, "train"), photos_per_identity
        self._further = IDENTITIES[split][score_identities : score_identities + real_photos]
        self._score = self._seeds("score_identities", score_identities, split), score_photos

    @staticmethod
    def _seeds(setting: str, number: int, split: str) -> Sequence[int]:
        seeds = IDENTITIES[split]
        if not 1 <= number <= len(seeds):
            raise ValueError(
                f"data.{setting}={number}, but the world has 1 to {len(seeds)} identities "
                f"for {split}."
            )
        return seeds[:number]

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the first identities of the world's "train" split."""
        return self._photos(*self._train, frozen)

    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the first identities of the chosen held-out split."""
        return self._photos(*self._score, frozen)

    def real_photos(self, frozen: Frozen, scoring: ScoringSet) -> RealPhotos:
        """Return the first photo without a flaw of each person after the scored ones.

        If the split has no further people, photos of the scored people are used.
        """
        if not self._further:
            return super().real_photos(frozen, scoring)
        chosen = [(seed, first_sound(seed)) for seed in self._further]
        size = frozen.backbone.image_size
        recipe = {"source": "world", "chosen": chosen, "renderer": _renderer_fingerprint()}
        rendered = self._render(chosen, size, size)
        store = cached_photos(self.cache, recipe, size, size, rendered, left_out=[])
        return RealPhotos(store, range(len(store)))

    def digest(self) -> None:
        """Return None: the settings alone determine the rendered photos."""

    def _photos(self, seeds: Sequence[int], per_identity: int, frozen: Frozen) -> PhotoSet:
        size, view_size = frozen.backbone.image_size, frozen.encoder.image_size
        recipe = {
            "source": "world", "identities": list(seeds), "photos": per_identity,
            "renderer": _renderer_fingerprint(),
        }  # fmt: skip
        photos = self._render(list(product(seeds, range(per_identity))), size, view_size)
        store = cached_photos(self.cache, recipe, size, view_size, photos, left_out=[])
        features = FeatureStore.cached(self.cache, store, frozen)
        return PhotoSet(store, features, tuple(str(seed) for seed in seeds))

    def _render(
        self, photos: list[tuple[int, int]], size: int, view_size: int
    ) -> Iterator[dict[str, Any]]:
        """Render photos by identity seed and photo seed, at the backbone's and encoder's sizes."""
        with ExitStack() as stack:
            apply: Callable[..., Iterator[render.Photo]] = map
            if self.workers:
                pool = stack.enter_context(rendering_pool(self.workers))
                apply = partial(pool.map, chunksize=16)
            identities, numbers = zip(*photos, strict=True)
            images = apply(render.render_photo, identities, numbers, repeat(size))
            views = (
                repeat(None)
                if view_size == size
                else apply(render.render_photo, identities, numbers, repeat(view_size))
            )
            jobs = zip(photos, images, views, strict=False)
            for (identity, number), photo, view in track(
                jobs, description="Rendering photos", total=len(photos)
            ):
                person = photo.people[0]
                yield {
                    "identity": str(identity),
                    "name": str(number),
                    "caption": photo.caption,
                    "flawed": bool(photo.flaws),
                    "image": photo.image,
                    **({} if view is None else {"view": view.image}),
                    "person_mask": photo.person_mask,
                    "face_mask": photo.face_mask,
                    "face_box": person.face_box,
                    "joints": person.joints,
                    "visible": person.visible.astype(np.uint8),
                    "true_shape": photo.shape,
                    "true_expression": photo.expression,
                    "true_pose": photo.pose,
                }


def first_sound(identity_seed: int) -> int:
    """Return the seed of a person's first photo without a flaw."""
    return next(seed for seed in count() if not make_settings(identity_seed, seed).flaws)


def _renderer_fingerprint() -> str:
    """Hash the renderer's source, so that a changed renderer does not read an old cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(render.__file__).parent.glob("*.py")):
        if path.stem not in _NO_PIXELS:
            digest.update(path.read_bytes())
    return digest.hexdigest()
