"""The base class of sources of photos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import get_args

from portraitlab.data.features import Frozen
from portraitlab.data.heldout import check_refs
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import Judges, RealPhotos, ScoringSet, TargetsOf
from portraitlab.method.select.selection import Selection


class PhotoSource(ABC):
    """A choice of the `data` group; photos are read or made only when a method needs them.

    A task uses it like this:

        frozen = Frozen(encoder, backbone, recogniser, device="cpu")
        train, score = data.train_photos(frozen), data.score_photos(frozen)
        batches = TrainingBatches(train, refs=4, batch_size=16, steps=1000, seed=0)
        scoring = data.scoring_set(score, refs=4, select=select, seed=0)
        trainer.fit(module, PortraitData(batches))
        for batch, samples in scoring.batches(32):
            images = sampler.sample(model, batch, seeds=[sample.seed for sample in samples])

    targets, judges, noise_seeds, targets_of: see ScoringSet. real_photos: how many, at most, FID
    compares with.
    """

    def __init__(
        self,
        targets: int,
        judges: Judges,
        noise_seeds: int,
        targets_of: TargetsOf,
        real_photos: int = 1000,
    ) -> None:
        counts = {"targets": targets, "noise_seeds": noise_seeds, "real_photos": real_photos}
        if isinstance(judges, int):
            counts["judges"] = judges
        elif judges != "references":
            raise ValueError(f"data.judges={judges!r} is unknown; give a number, or references.")
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"data.{name}={value} must be at least 1.")
        if targets_of not in get_args(TargetsOf):
            raise ValueError(
                f"data.targets_of={targets_of!r} is unknown; choose own, others or templates."
            )
        self.targets = targets
        self.judges = judges
        self.noise_seeds = noise_seeds
        self.targets_of = targets_of
        self.most_real = real_photos

    @abstractmethod
    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities to train on: from the cache, or made and then cached."""

    @abstractmethod
    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of held-out identities: from the cache, or made and then cached."""

    def real_photos(self, frozen: Frozen, scoring: ScoringSet) -> RealPhotos:
        """Photos without a flaw that FID compares with, none of which a bound is made of.

        Here of the people who are scored, since there are no others.
        """
        return scoring.unaimed(self.most_real)

    @abstractmethod
    def counts(self, frozen: Frozen) -> tuple[list[int], list[int]]:
        """Return the photos of each person to train on and of each held out; nothing is encoded."""

    def check_refs(self, frozen: Frozen, refs: int, score_refs: int, beside: int = 1) -> None:
        """Raise ValueError if `refs` or `score_refs` is too large, before photos are encoded.

        beside: photos of a training sample beside the references.
        """
        own = 1 if self.targets_of == "templates" else self.targets
        check_refs(*self.counts(frozen), refs, score_refs, own, beside)

    @abstractmethod
    def digest(self) -> str | None:
        """Return a sha256 of the photos if files at their place may change, else None.

        It does not include settings, which a run's key covers.
        """

    def scoring_set(
        self, photos: PhotoSet, refs: int, select: Selection, seed: int = 0
    ) -> ScoringSet:
        """Return the samples to generate and judge. Raises ValueError if `refs` is too large."""
        return ScoringSet(
            photos,
            refs,
            select,
            seed,
            targets=self.targets,
            judges=self.judges,
            noise_seeds=self.noise_seeds,
            targets_of=self.targets_of,
        )
