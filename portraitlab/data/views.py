"""Views of one moment from several cameras, to train on pairs of them (IC-Portrait, Sec. 3.2)."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from portraitlab.data.features import FeatureStore, Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.rendering import rendered_views
from portraitlab.data.store import cached_photos
from portraitlab.data.world import WorldData, renderer_fingerprint, sound_photos
from portraitlab.support.checks import check_number, check_whole


class ViewsData(WorldData):
    """Moments of synthetic people, each seen from several cameras; scored people have photos.

    A moment takes the place of an identity, so that a target and its reference are two views of it,
    as the pairs that the paper renders with EG3D. moments: of each of `identities`, without a flaw.
    photos_per_identity: views of a moment. most_yaw: largest turn of the camera to either side, in
    degrees. The other settings are WorldData's.

    Raises ValueError as WorldData does, without a moment, and for a turn outside (0, 60].
    """

    def __init__(self, *, moments: int, most_yaw: float, **settings: Any) -> None:
        super().__init__(**settings)
        check_whole("data.moments", moments)
        check_number("data.most_yaw", most_yaw, above=0, most=60)
        self.moments = moments
        self.most_yaw = most_yaw

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return the views of all moments, with each moment as an identity."""
        people, views = self._train
        moments = [
            (person, photo)
            for person in people
            for photo in islice(sound_photos(person), self.moments)
        ]
        # Draw the cameras of each moment.
        most = np.deg2rad(self.most_yaw)
        yaws = [
            np.random.default_rng([7401, *moment]).uniform(-most, most, views).tolist()
            for moment in moments
        ]
        # Render and encode them, or open them in the cache.
        size, view_size = frozen.backbone.image_size, frozen.encoder.image_size
        recipe = {
            "source": "views", "moments": moments, "views": views, "most_yaw": self.most_yaw,
            "renderer": renderer_fingerprint(),
        }  # fmt: skip
        rendered = rendered_views(moments, yaws, size, view_size, self.workers)
        store = cached_photos(self.cache, recipe, size, view_size, rendered)
        features = FeatureStore.cached(self.cache, store, frozen)
        return PhotoSet(store, features, tuple(f"{person}-{photo}" for person, photo in moments))
