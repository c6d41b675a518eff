"""Features are the frozen models' outputs, computed once and cached by model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portraitlab.data.features import FeatureStore
from portraitlab.faces.alignment import align
from portraitlab.faces.encoder.face_encoder import matted
from portraitlab.support.hashes import weights_fingerprint


def test_every_row_is_what_the_frozen_models_say_of_its_photo(photos, frozen) -> None:
    store, features = photos.store, photos.features
    rows = torch.tensor([16, 3])
    encoder, backbone = frozen.encoder, frozen.backbone
    views, masks = store.views(rows), store.person_masks(rows)
    geometry = encoder.analyse(views)
    local, global_ = encoder.encode(views, masks, geometry)
    torch.testing.assert_close(features.local[rows], local.half(), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(features.global_[rows], global_, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.geometry[rows].keypoints, geometry.keypoints)
    assert geometry.coefficients is not None
    assert features.geometry.coefficients is not None
    torch.testing.assert_close(
        features.geometry[rows].coefficients.pose, geometry.coefficients.pose
    )
    with torch.no_grad():
        latents = backbone.encode(store.images(rows))
        crops = align(matted(store.images(rows), masks), geometry.keypoints, 48)
        identity = frozen.recogniser(crops)
    torch.testing.assert_close(features.latents[rows], latents, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.identity[rows], identity, atol=1e-5, rtol=1e-4)
    captions = [store.caption[row] for row in rows]
    torch.testing.assert_close(features.text(rows).words, backbone.encode_text(captions).words)
    torch.testing.assert_close(features.empty_text.words, backbone.encode_text([""]).words)


def test_a_second_start_computes_nothing_and_another_model_only_its_own(
    photos, frozen, make_encoder, tiny_backbone, tmp_path
) -> None:
    folder = tmp_path / "cache" / "features"

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}

    first = files()
    assert sorted(name.split("-")[0] for name in first) == [
        *("faces", "identity", "pictures", "texts"),
    ]

    def forbidden(*_: object) -> None:
        raise AssertionError("a frozen model was run again")

    frozen.encoder.analyse = forbidden
    again = FeatureStore.cached(tmp_path / "cache", photos.store, frozen)
    assert files() == first
    torch.testing.assert_close(again.identity, photos.features.identity, rtol=0, atol=0)

    backbone = replace(frozen, backbone=tiny_backbone(seed=1))
    other = FeatureStore.cached(tmp_path / "cache", photos.store, backbone)
    assert len(files().keys() - first.keys()) == 2  # pictures and texts
    assert not torch.equal(other.latents, photos.features.latents)
    torch.testing.assert_close(other.global_, photos.features.global_, rtol=0, atol=0)

    encoder = replace(frozen, encoder=make_encoder(seed=1))
    other = FeatureStore.cached(tmp_path / "cache", photos.store, encoder)
    assert not torch.equal(other.global_, photos.features.global_)
    assert len(files().keys() - first.keys()) == 4


def test_another_precision_is_another_cache_with_nearly_the_same_features(
    photos, frozen, tmp_path
) -> None:
    single = photos.features
    half = FeatureStore.cached(
        tmp_path / "cache", photos.store, replace(frozen, precision="bf16-mixed")
    )
    assert len(list((tmp_path / "cache" / "features").glob("[!.]*"))) == 8
    for name in ("latents", "global_", "identity"):
        one, other = getattr(single, name)[:], getattr(half, name)[:]
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
    pixels = (single.geometry.keypoints - half.geometry.keypoints).abs() * photos.store.size
    assert pixels.max() < 0.5
    lengths = half.identity[:].norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["faces", "pictures", "texts", "identity"])
@pytest.mark.parametrize("half", [False, True])
def test_damaged_features_are_computed_again(photos, frozen, tmp_path, caplog, kind, half) -> None:
    (path,) = (tmp_path / "cache" / "features").glob(f"{kind}-*")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = bytes([whole[middle] ^ 1])
    path.write_bytes(whole[:middle] + (b"" if half else flipped + whole[middle + 1 :]))
    again = FeatureStore.cached(tmp_path / "cache", photos.store, frozen)
    assert "is damaged and is made again" in caplog.text
    assert path.read_bytes() == whole
    assert torch.equal(again.identity[:], photos.features.identity[:])


def test_background_does_not_reach_the_features(photos, frozen) -> None:
    encoder = frozen.encoder
    views = photos.store.views([0, 1])
    masks = photos.store.person_masks([0, 1])
    assert masks.any()
    assert not masks.all()
    geometry = encoder.analyse(views)
    fine = torch.nn.functional.interpolate(masks[:, None].float(), views.shape[-2:])
    elsewhere = torch.where(matted(views, masks) == 0, 1.0, views)
    assert fine.shape[-1] == views.shape[-1]
    for ours, theirs in zip(
        encoder.encode(views, masks, geometry),
        encoder.encode(elsewhere, masks, geometry),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    unmasked = encoder.encode(elsewhere, torch.ones_like(masks), geometry)[1]
    assert not torch.allclose(unmasked, encoder.encode(views, masks, geometry)[1])


def test_fingerprints_tell_weights_apart() -> None:
    layer = torch.nn.BatchNorm1d(3)
    before = weights_fingerprint(layer)
    assert weights_fingerprint(torch.nn.BatchNorm1d(3)) == before
    layer.num_batches_tracked += 1
    assert weights_fingerprint(layer) != before
    assert weights_fingerprint(torch.nn.InstanceNorm1d(3)) != weights_fingerprint(torch.nn.ReLU())
