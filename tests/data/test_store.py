"""A cached store gives back what was put in, and is made again where it is damaged."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from portraitlab.data.store import cached_photos

TRUE = ("true_shape", "true_expression", "true_pose")


def make_photos(number: int, view: bool = False) -> list[dict[str, object]]:
    generator = np.random.default_rng(0)

    def pixels(size: int):
        return generator.integers(0, 256, (size, size, 3), dtype=np.uint8)

    return [
        {
            "identity": f"person {row // 3}",
            "name": str(row),
            "caption": f"caption {row % 2}",
            "image": pixels(6),
            **({"view": pixels(10)} if view else {}),
            "person_mask": generator.random((6, 6)) < 0.5,
            **{
                name: generator.normal(size=size).astype(np.float32)
                for name, size in zip(TRUE, (3, 2, 6), strict=True)
            },
        }
        for row in range(number)
    ]


def cached(tmp_path, photos, size=6, view_size=6, recipe=None, left_out=()):
    recipe = {"name": "test"} if recipe is None else recipe
    return cached_photos(tmp_path, recipe, size, view_size, photos, list(left_out))


def test_photos_come_back_as_they_were(tmp_path) -> None:
    photos = make_photos(600, view=True)
    store = cached(tmp_path, photos, view_size=10, left_out=["photo a: too dark"])
    rows = [599, 0, 256, 255]

    def expected(name: str):
        return np.stack([photos[row][name] for row in rows])

    images = store.images(torch.tensor(rows))
    assert images.shape == (4, 3, 6, 6)
    images = images.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, expected("image") / 127.5 - 1, atol=1e-6)
    views = store.views(rows).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(views, expected("view") / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(store.person_masks(rows).numpy(), expected("person_mask"))
    found = store.true_coefficients(rows)
    np.testing.assert_array_equal(found.shape.numpy(), expected("true_shape"))
    np.testing.assert_array_equal(found.pose.numpy(), expected("true_pose"))
    assert len(store) == 600
    assert (store.identity[599], store.name[599], store.caption[599]) == (
        "person 199", "599", "caption 1",
    )  # fmt: skip
    assert store.left_out == ("photo a: too dark",)
    assert store.captions.all("caption") == ["", "caption 0", "caption 1"]


def never():
    raise AssertionError("the photos were requested again")
    yield


def test_what_is_cached_is_not_made_again(tmp_path) -> None:
    key = cached(tmp_path, make_photos(3)).key
    assert cached(tmp_path, never()).key == key
    assert cached(tmp_path, make_photos(3), recipe={"name": "other"}).key != key
    assert cached(tmp_path, make_photos(3), size=7).key != key


def test_an_interrupted_store_leaves_nothing_behind(tmp_path) -> None:
    def interrupted():
        yield from make_photos(300)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, interrupted())
    assert list((tmp_path / "photos").glob("*/")) == []
    assert len(cached(tmp_path, make_photos(300))) == 300


@pytest.mark.parametrize("file", ["captions.arrow", "photos-000000.arrow", "photos-000001.arrow"])
@pytest.mark.parametrize("damage", ["a bit", "half a file", "no file"])
def test_a_damaged_store_is_made_again(tmp_path, caplog, file: str, damage: str) -> None:
    photos = make_photos(300)
    cached(tmp_path, photos)
    (folder,) = (tmp_path / "photos").glob("*/")
    data = bytearray((folder / file).read_bytes())
    if damage == "a bit":
        text = b"caption 1" if file == "captions.arrow" else b"IDAT"
        data[data.rindex(text) + 8] ^= 1
        (folder / file).write_bytes(data)
    elif damage == "half a file":
        (folder / file).write_bytes(data[: len(data) // 2])
    else:
        (folder / file).unlink()
    with caplog.at_level(logging.WARNING):
        store = cached(tmp_path, photos)
    assert "is damaged and is made again" in caplog.text
    rows = [0, 299]
    assert torch.equal(store.images(rows), cached(tmp_path / "other", photos).images(rows))
    assert store.caption[299] == "caption 1"
    cached(tmp_path, never())


def test_photos_that_were_not_rendered_have_no_true_coefficients(tmp_path) -> None:
    photos = [{name: photo[name] for name in photo if name not in TRUE} for photo in make_photos(1)]
    store = cached(tmp_path, photos)
    with pytest.raises(ValueError, match="have no true coefficients"):
        store.true_coefficients([0])
    with pytest.raises(ValueError, match="have no true light"):
        store.true_light([0])
