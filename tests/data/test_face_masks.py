"""Face masks: the renderer's, those drawn from landmarks, and their way into a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.face_masks import draw_face_masks
from portraitlab.data.folder import FolderData
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepared import PreparedData
from portraitlab.faces.matting.none import NoMatting
from portraitlab.method.objective.base import Term
from portraitlab.training.build import wanted_fields
from portraitlab.types import FaceCoefficients, FaceGeometry
from portraitlab.world.render import render_photo


class MaskedTerm(Term):
    """A term that reads the face mask."""

    wants = ("face_mask",)


WANTED = frozenset(MaskedTerm.wants)


def batch_of(photos, **settings):
    return TrainingBatches(photos, refs=2, batch_size=8, steps=2, seed=0, **settings)[1]


def test_a_term_s_wants_are_collected_from_the_configuration() -> None:
    noise = {"_target_": "portraitlab.method.objective.noise.NoiseLoss"}
    masked = {"_target_": f"{__name__}.MaskedTerm"}
    config = OmegaConf.create({"terms": {"noise": noise}})
    assert wanted_fields(config) == frozenset()
    config.terms.masked = masked
    assert wanted_fields(config) == {"face_mask"}


def test_a_batch_has_the_renderer_s_masks_at_the_latents_size(photos) -> None:
    assert batch_of(photos).face_mask is None
    batch = batch_of(replace(photos, wants=WANTED))
    assert batch.face_mask.shape == (8, 16, 16)
    for row, mask in zip(batch.target_index.tolist(), batch.face_mask, strict=True):
        store = photos.store
        rendered = render_photo(int(store.identity[row]), int(store.name[row]), size=32)
        expected = rendered.face_mask.reshape(16, 2, 16, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(mask.numpy(), expected, atol=1e-6)
    assert batch[2:4].face_mask.shape == (2, 16, 16)


def test_folders_and_prepared_photos_have_the_same_masks_within_the_person(
    sound, frozen, tmp_path
) -> None:
    options = PrepareOptions(caption="a photo of a person", minimum_side=32)
    prepare(sound, tmp_path / "out", frozen, NoMatting(), options, workers=0)
    folder = FolderData(str(tmp_path / "cache"), str(sound)).train_photos(frozen)
    prepared = PreparedData(str(tmp_path / "out")).train_photos(frozen)
    ours, theirs = (batch_of(replace(each, wants=WANTED)) for each in (folder, prepared))
    assert torch.equal(ours.target_index, theirs.target_index)
    assert (ours.face_mask - theirs.face_mask).abs().mean() < 0.01
    assert 0.02 < ours.face_mask.mean() < 0.9
    assert (ours.face_mask <= ours.person[:, 0] + 1e-3).all()
    again = FolderData(str(tmp_path / "cache"), str(sound)).train_photos(frozen)
    assert torch.equal(batch_of(replace(again, wants=WANTED)).face_mask, ours.face_mask)


@pytest.mark.parametrize(("fitted", "least"), [(True, 0.85), (False, 0.7)])
def test_masks_drawn_from_true_points_agree_with_the_renderer_s(
    make_encoder, fitted: bool, least: float
) -> None:
    photos = [render_photo(100 + number, number, 64) for number in range(40)]

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(photo, name) for photo in photos]))

    coefficients = FaceCoefficients(*map(stacked, ("shape", "expression", "pose")))
    geometry = FaceGeometry(stacked("keypoints"), torch.ones(40), coefficients if fitted else None)
    drawn = draw_face_masks(make_encoder(), geometry, stacked("person_mask"))
    true = stacked("face_mask")
    overlap = (drawn & true).sum((1, 2)) / (drawn | true).sum((1, 2))
    assert overlap.mean() > least
    assert not (drawn & ~stacked("person_mask")).any()


def test_a_field_that_no_source_has_is_refused(photos) -> None:
    with pytest.raises(ValueError, match="wants depth of a batch, and photos have face_mask"):
        replace(photos, wants=frozenset(["depth"]))
