"""The self-supervised encoder: its crops, its self-distillation, and what its figures compare."""

import pytest
import torch

from portraitlab.pretraining.dino import (
    BATCH,
    GLOBAL,
    LOCAL,
    PROTOTYPES,
    SelfDistillation,
    crops,
    retrieval,
)
from portraitlab.pretraining.photos import load_photos
from portraitlab.world.models.dino import SelfSupervisedEncoder
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

TINY = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 64, "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def model() -> SelfDistillation:
    torch.manual_seed(0)
    return SelfDistillation(SelfSupervisedEncoder(TINY))


def test_local_crops_show_less_of_the_image_than_global_ones() -> None:
    along = torch.linspace(-0.5, 0.5, 64).expand(64, 64)
    images = torch.stack([along, along.T, torch.zeros(64, 64)]).repeat(BATCH, 1, 1, 1)
    extents = []
    for _, size, area in (GLOBAL, LOCAL):
        seen = crops(images, size, area, torch.Generator().manual_seed(0))
        assert seen.shape == (BATCH, 3, size, size)
        assert not torch.equal(seen[0], seen[1])
        assert torch.equal(seen, crops(images, size, area, torch.Generator().manual_seed(0)))
        extents.append((seen.amax((2, 3)) - seen.amin((2, 3)))[:, :2].mean())
    assert extents[1] < 0.75 * extents[0]


def test_the_teacher_starts_as_the_student_and_follows_it(model: SelfDistillation) -> None:
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(model.teacher(images), model.student(images))
    weight = model.teacher.encoder.trunk.embeddings.cls_token
    before = weight.clone()
    with torch.no_grad():
        model.student.encoder.trunk.embeddings.cls_token += 1
    model.follow()
    assert 0 < (weight - before).mean() < 0.1
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())


def test_only_the_student_learns_and_the_centre_moves(model: SelfDistillation) -> None:
    wide, narrow = [torch.randn(4, 3, 64, 64) for _ in range(2)], [torch.randn(4, 3, 32, 32)]
    loss = model.loss(wide, narrow)
    loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.student.encoder.trunk.embeddings.patch_embeddings.projection.weight.grad.any()
    assert model.centre.any()
    assert torch.isfinite(loss)


def test_the_loss_is_the_paper_s(model: SelfDistillation) -> None:
    generator = torch.Generator().manual_seed(0)
    wide = [torch.randn(3, 3, 64, 64, generator=generator) for _ in range(2)]
    narrow = [torch.randn(3, 3, 32, 32, generator=generator) for _ in range(2)]
    model.centre.normal_(generator=generator)
    with torch.no_grad():
        for parameter in model.student.encoder.parameters():  # else all images look alike
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    centre, terms = model.centre.clone(), []
    for place, seen in enumerate(wide):
        wanted = torch.softmax((model.teacher(seen) - centre) / 0.04, -1)
        for other, crop in enumerate([*wide, *narrow]):
            if other != place:
                guess = torch.log_softmax(model.student(crop) / 0.1, -1)
                terms.append(-(wanted * guess).sum(-1).mean())
    torch.testing.assert_close(model.loss(wide, narrow), sum(terms) / 6, rtol=1e-4, atol=1e-5)
    assert len(centre) == PROTOTYPES


def test_figures_are_of_nearest_photos(tmp_path, model: SelfDistillation) -> None:
    people, each = 5, 3
    photos = load_photos("foundation_check", people, each, tmp_path, workers=1)
    encoder = model.teacher.encoder.eval()
    found = retrieval(encoder, photos, "portrait")
    seen = encoder(photos.pixels(torch.arange(len(photos))))
    cosine = seen @ seen.T
    worn = [
        (shot.clothes, shot.clothes_colour)
        for seed in IDENTITIES["foundation_check"][:people]
        for shot in (make_settings(seed, photo) for photo in range(each))
    ]
    person, clothes = [], []
    for i in range(len(photos)):
        order = [j for j in cosine[i].argsort(descending=True).tolist() if j != i]
        person.append(order[0] // each == i // each)
        stranger = next(j for j in order if j // each != i // each)
        clothes.append(worn[stranger] == worn[i])
    assert found["nearest_person"] == pytest.approx(sum(person) / len(photos), abs=1e-3)
    assert found["nearest_clothes"] == pytest.approx(sum(clothes) / len(photos), abs=1e-3)
    others = [
        worn[i] == worn[j]
        for i in range(len(photos))
        for j in range(len(photos))
        if i // each != j // each
    ]
    assert found["random_clothes"] == pytest.approx(sum(others) / len(others), abs=1e-3)
    assert found["random_person"] == pytest.approx((each - 1) / (len(photos) - 1), abs=1e-3)


def test_images_of_other_sizes_are_resized(model: SelfDistillation) -> None:
    encoder = model.student.encoder.eval()
    images = torch.rand(2, 3, 128, 128)
    embeddings = encoder(images)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    assert embeddings.shape == (2, 16)
