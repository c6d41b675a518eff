"""The photo store gives back what was put in, and refuses what was damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from portraitlab.data.store import FORMAT, PhotoStore, StoredPhoto


def make_photos(number: int, view: bool = False) -> list[StoredPhoto]:
    generator = np.random.default_rng(0)

    def pixels(size: int):
        return generator.integers(0, 256, (size, size, 3), dtype=np.uint8)

    return [
        StoredPhoto(
            identity=f"person {row // 3}",
            name=str(row),
            caption=f"caption {row % 2}",
            image=pixels(6),
            view=pixels(10) if view else None,
            person_mask=generator.random((6, 6)) < 0.5,
            coefficients=tuple(generator.normal(size=n).astype(np.float32) for n in (3, 2, 6)),
        )
        for row in range(number)
    ]


def cached(tmp_path, photos, size=6, view_size=6, recipe=None, left_out=()):
    recipe = {"name": "test"} if recipe is None else recipe
    return PhotoStore.cached(tmp_path, recipe, size, view_size, photos, list(left_out))


def test_photos_come_back_as_they_were(tmp_path) -> None:
    photos = make_photos(600, view=True)
    store = cached(tmp_path, photos, view_size=10, left_out=["photo a: too dark"])
    rows = [599, 0, 256, 255]
    expected = np.stack([photos[row].image for row in rows])
    images = store.images(torch.tensor(rows))
    assert images.shape == (4, 3, 6, 6)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), expected / 127.5 - 1, atol=1e-6)
    views = store.views(rows).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(
        views, np.stack([photos[row].view for row in rows]) / 127.5 - 1, atol=1e-6
    )
    masks = np.stack([photos[row].person_mask for row in rows])
    np.testing.assert_array_equal(store.person_masks(rows).numpy(), masks)
    np.testing.assert_array_equal(
        store.true_coefficients(rows).shape.numpy(),
        np.stack([photos[row].coefficients[0] for row in rows]),
    )
    assert len(store) == 600
    assert (store.identity[599], store.name[599], store.caption[599]) == (
        "person 199", "599", "caption 1",
    )  # fmt: skip
    assert store.left_out == ("photo a: too dark",)


def test_what_is_cached_is_not_made_again(tmp_path) -> None:
    key = cached(tmp_path, make_photos(3)).key

    def never():
        raise AssertionError("the photos were requested again")
        yield

    assert cached(tmp_path, never()).key == key
    assert cached(tmp_path, make_photos(3), recipe={"name": "other"}).key != key


def test_an_interrupted_store_leaves_nothing_behind(tmp_path) -> None:
    def interrupted():
        yield from make_photos(300)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, interrupted())
    assert list((tmp_path / "photos").glob("*/")) == []
    assert len(cached(tmp_path, make_photos(300))) == 300


def test_damage_and_another_format_are_refused_with_the_remedy(tmp_path) -> None:
    cached(tmp_path, make_photos(300))
    (folder,) = (tmp_path / "photos").glob("*/")
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ValueError, match=rf"has format 99, not {FORMAT}.*Delete"):
        PhotoStore(folder)
    (folder / "about.json").write_text(json.dumps(about | {"photos": 301}))
    with pytest.raises(ValueError, match=r"has 300 photos, not 301.*Delete"):
        PhotoStore(folder)
    (folder / "about.json").write_text(json.dumps(about))
    data = (folder / "photos.arrow").read_bytes()
    (folder / "photos.arrow").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cannot be read.*Delete"):
        PhotoStore(folder)


def test_photos_that_were_not_rendered_have_no_true_coefficients(tmp_path) -> None:
    photo = StoredPhoto("a", "1", "", np.zeros((6, 6, 3), np.uint8), None, np.ones((6, 6), bool))
    store = cached(tmp_path, [photo])
    with pytest.raises(ValueError, match="without true shape"):
        store.true_coefficients([0])
