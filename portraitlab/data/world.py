"""The source of rendered photos of the miniature world."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain, count, product
from pathlib import Path
from typing import Any

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.rendering import CLOSE_UPS, Group, groups_of, rendered_groups, rendered_photos
from portraitlab.data.source import PhotoSource
from portraitlab.data.store import cached_photos
from portraitlab.data.testset import RealPhotos, ScoringSet
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.world import render
from portraitlab.world.settings import FRAMINGS, make_settings
from portraitlab.world.splits import IDENTITIES, LOOK_ALIKES

_NO_PIXELS = ("pretrained", "pool", "sheet", "splits", "tokenizer")
"""Modules beside the renderer that do not affect pixels."""


class WorldData(PhotoSource):
    """Photos of synthetic people, rendered once by several processes and cached.

    identities and photos_per_identity: to train on. score_identities and score_photos: to score
    on. split: of the scored people: "development" (to choose settings on) or "test" (for tables),
    or one of the two with `_look_alikes`, whose people differ in details only; no two splits share
    an identity. workers: rendering processes; 0 renders in the main process. cache: folder for
    photos and features. scoring: see PhotoSource; real_photos are one each of further people of the
    split, fewer if it has fewer.

    framing: "portrait"; "varied", heads of other sizes and places; or on the larger canvas "half"
    or "full" bodies, both in turn ("bodies"), or in turn with portraits ("people"). There the
    encoder sees faces in a close-up of the same person. score_framing: that of the
    scored targets, one of these or "group", groups of two to four of the scored people; None is
    that of the training.

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
        workers: int = 2,
        framing: str = "portrait",
        score_framing: str | None = None,
        **scoring: Any,
    ) -> None:
        super().__init__(**scoring)
        splits = [name + kind for name in ("development", "test") for kind in ("", LOOK_ALIKES)]
        check_choice("data.split", split, splits)
        check_whole("data.photos_per_identity", photos_per_identity, 2)
        check_whole("data.score_photos", score_photos, 3)
        scored = framing if score_framing is None else score_framing
        closer = framing in CLOSE_UPS
        check_choice("data.framing", framing, (*FRAMINGS, "bodies", "people"))
        check_choice("data.score_framing", scored, CLOSE_UPS if closer else (framing,))
        self.cache = Path(cache)
        self.workers = workers
        self.framing, self.score_framing = framing, scored
        self._train = self._seeds("identities", identities, "train"), photos_per_identity
        self._further = IDENTITIES[split][score_identities : score_identities + self.most_real]
        self._score = self._seeds("score_identities", score_identities, split), score_photos

    @staticmethod
    def _seeds(setting: str, number: int, split: str) -> Sequence[int]:
        seeds = IDENTITIES[split]
        check_whole(f"data.{setting}", number, 1, len(seeds), hint=f" for {split}")
        return seeds[:number]

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the first identities of the world's "train" split."""
        return self._photos(*self._train, frozen, self.framing)

    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the first identities of the chosen held-out split.

        With score_framing=group also as many pictures of each group of them as targets.
        """
        if self.score_framing != "group":
            return self._photos(*self._score, frozen, self.score_framing)
        groups = [
            (group, each) for group in groups_of(self._score[0]) for each in range(self.targets)
        ]
        return self._photos(*self._score, frozen, self.framing, groups)

    def real_photos(self, frozen: Frozen, scoring: ScoringSet) -> RealPhotos:
        """Return the first photo without a flaw of each person after the scored ones.

        With score_framing=group, a picture of each group of them. If the split has no further
        people, photos of the scored people are used.
        """
        if not self._further:
            return super().real_photos(frozen, scoring)
        size = frozen.backbone.image_size
        if self.score_framing == "group":
            groups = [(group, 0) for group in groups_of(self._further)]
            store = self._store([], groups, size, size, self.framing, {"chosen": groups})
            first = {scene: row for row, scene in reversed([*enumerate(store.scene)])}
            return RealPhotos(store, sorted(first.values()))
        chosen = [(seed, next(sound_photos(seed))) for seed in self._further]
        store = self._store(chosen, [], size, size, self.score_framing, {"chosen": chosen})
        return RealPhotos(store, range(len(store)))

    def counts(self, frozen: Frozen) -> tuple[list[int], list[int]]:
        """Return the number of photos of each person, which is the same for all."""
        (train, each), (held, each_held) = self._train, self._score
        return [each] * len(train), [each_held] * len(held)

    def digest(self) -> None:
        """Return None: the settings alone determine the rendered photos."""

    def _photos(
        self,
        seeds: Sequence[int],
        per_identity: int,
        frozen: Frozen,
        framing: str,
        groups: Sequence[Group] = (),
    ) -> PhotoSet:
        size, view_size = frozen.backbone.image_size, frozen.encoder.image_size
        about = {"identities": list(seeds), "photos": per_identity}
        photos = list(product(seeds, range(per_identity)))
        store = self._store(photos, groups, size, view_size, framing, about)
        features = FeatureStore.cached(self.cache, store, frozen)
        return PhotoSet(store, features, tuple(str(seed) for seed in seeds))

    def _store(
        self,
        photos: list[tuple[int, int]],
        groups: Sequence[Group],
        size: int,
        view_size: int,
        framing: str,
        about: dict[str, Any],
    ) -> Photos:
        """Render photos of one person, then groups, or open them in the cache."""
        recipe = {"source": "world", **about, "renderer": renderer_fingerprint()}
        if framing != "portrait":  # so that portraits keep the key of earlier caches
            recipe |= {"framing": framing, "groups": list(groups)}
        rendered = chain(
            rendered_photos(photos, size, view_size, framing, self.workers),
            rendered_groups(groups, size, view_size, self.workers),
        )
        store = cached_photos(self.cache, recipe, size, view_size, rendered)
        store.framing = framing
        return store


def sound_photos(identity_seed: int) -> Iterator[int]:
    """Yield the seeds of a person's photos without a flaw, from the first on."""
    return (seed for seed in count() if not make_settings(identity_seed, seed).flaws)


def renderer_fingerprint() -> str:
    """Hash the renderer's source, so that a changed renderer does not read an old cache."""
    digest = hashlib.sha256()
    for path in sorted(Path(render.__file__).parent.glob("*.py")):
        if path.stem not in _NO_PIXELS:
            digest.update(path.read_bytes())
    return digest.hexdigest()
