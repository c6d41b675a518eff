"""The base class of sources of photos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import get_args

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import Judges, RealPhotos, ScoringSet, TargetsOf
from portraitlab.method.select.selection import Selection
from portraitlab.support.checks import check_choice, check_whole


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
        targets: int = 1,
        judges: Judges = 4,
        noise_seeds: int = 1,
        targets_of: TargetsOf = "own",
        real_photos: int = 1000,
    ) -> None:
        counts = {"targets": targets, "noise_seeds": noise_seeds, "real_photos": real_photos}
        for name, value in counts.items():
            check_whole(f"data.{name}", value)
        if judges != "references":
            check_whole("data.judges", judges, hint=", or references")
        check_choice("data.targets_of", targets_of, get_args(TargetsOf))
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
        """Raise ValueError if nobody has the photos that training or scoring takes of a person.

        Nothing is encoded for it. beside: photos of a training sample beside the references. The
        error names the number of references that fits.
        """
        train, held = self.counts(frozen)
        targets = 1 if self.targets_of == "templates" else self.targets
        most, most_scored = max(train) - beside, max(held) - targets - 1
        if refs <= most and score_refs <= most_scored:
            return
        needs = (
            f"training needs a person with {refs + beside} photos, and the {len(train)} to train "
            f"on have {min(train)} to {max(train)}; scoring needs one with "
            f"{targets + score_refs + 1} (data.targets={targets}, {score_refs} references, 1 to "
            f"judge by), and the {len(held)} held out have {min(held)} to {max(held)}"
        )
        name, fits = "refs", min(most, most_scored)
        if refs <= most and score_refs != refs:
            name, fits = "score_refs", most_scored
        value = {"refs": refs, "score_refs": score_refs}[name]
        remedy = f"Choose {name}={fits}, or add photos." if fits >= 1 else "Add photos."
        raise ValueError(f"{name}={value} is too many for these photos: {needs}. {remedy}")

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
