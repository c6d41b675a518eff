"""Training batches: the content of samples, and that seed and step alone determine it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.loader import PortraitData
from portraitlab.types import Batch


def rows_of(features: Tensor, batch: Tensor) -> Tensor:
    """Find the rows of the references by their features."""
    return (batch[:, :, None] - features).abs().sum(-1).argmin(-1)


def make(photos, **settings) -> TrainingBatches:
    usual = {"refs": 4, "batch_size": 32, "steps": 20, "seed": 0}
    return TrainingBatches(photos, **(usual | settings))


def test_references_show_the_targets_identity_and_never_the_target(photos) -> None:
    batches = make(photos)
    identity = torch.tensor([int(name) for name in photos.store.identity])
    numbers: Counter[int] = Counter()
    for step in range(len(batches)):
        batch = batches[step]
        mask = batch.references.mask
        rows = rows_of(photos.features.global_, batch.references.global_)
        target = batch.target_index[:, None]
        assert (identity[rows] == identity[target])[mask].all()
        assert (rows != target)[mask].all()
        for row, present in zip(rows, mask, strict=True):
            assert len(set(row[present].tolist())) == present.sum()
        assert not batch.references.local_[~mask].any()
        assert not batch.references.global_[~mask].any()
        torch.testing.assert_close(batch.latents, photos.features.latents[batch.target_index])
        numbers.update(mask.sum(1).tolist())
    assert set(numbers) == {1, 2, 3, 4}
    assert all(100 < number < 220 for number in numbers.values()), numbers


def test_the_target_is_among_its_references_where_asked(photos) -> None:
    itself = torch.zeros(2)
    for refs in (1, 5):
        batches = make(photos, refs=refs, target_as_reference=True)
        for step in range(len(batches)):
            batch = batches[step]
            rows = rows_of(photos.features.global_, batch.references.global_)
            mask = batch.references.mask
            for row, present, target in zip(rows, mask, batch.target_index, strict=True):
                chosen = row[present].tolist()
                assert len(set(chosen)) == len(chosen)
                itself[refs // 5] += int(target) in chosen
    of = photos.members().counts.max()
    drawn = 20 * 32
    assert itself[0].item() == pytest.approx(drawn / of, rel=0.3)
    assert itself[1] > 2 * itself[0]


def test_one_photo_is_enough_for_a_target_that_is_its_reference(photos) -> None:
    members = photos.members()
    most = int(members.counts.max())
    with pytest.raises(ValueError, match=rf"refs={most} is too many.*with {most + 1} photos"):
        make(photos, refs=most)
    assert make(photos, refs=most, target_as_reference=True)[0].references.mask.shape[1] == most
    with pytest.raises(ValueError, match=rf"with {most + 1} photos, and the largest has {most}"):
        make(photos, refs=most + 1, target_as_reference=True)


def test_a_flawed_photo_is_a_reference_and_never_a_target(photos) -> None:
    flawed = torch.tensor(photos.store.flawed)
    assert 0 < flawed.sum() < len(flawed)
    referred = 0
    for step in range(20):
        batch = make(photos)[step]
        assert not flawed[batch.target_index].any()
        rows = rows_of(photos.features.global_, batch.references.global_)
        referred += int(flawed[rows][batch.references.mask].sum())
    assert referred > 50
    photos.store.flawed = [True] * len(flawed)
    assert len(set(make(photos)[0].target_index.tolist())) > 5


def test_references_bring_their_latents_where_a_net_reads_them(photos) -> None:
    plain, batch = make(photos)[3], make(replace(photos, reference_latents=True))[3]
    assert plain.references.latents is None
    assert torch.equal(plain.references.local_, batch.references.local_)
    rows, mask = rows_of(photos.features.global_, batch.references.global_), batch.references.mask
    assert torch.equal(batch.references.latents[mask], photos.features.latents[rows[mask]])
    assert not batch.references.latents[~mask].any()


def test_identity_is_the_mean_of_the_references_that_are_there(photos) -> None:
    batch = make(photos)[3]
    rows = rows_of(photos.features.global_, batch.references.global_)
    for sample, (row, present) in enumerate(zip(rows, batch.references.mask, strict=True)):
        mean = photos.features.identity[row[present]].mean(0)
        torch.testing.assert_close(batch.identity[sample], mean / mean.norm())


def test_the_shape_is_one_references_and_any_of_them(photos) -> None:
    places: Counter[int] = Counter()
    for step in range(20):
        batch = make(photos)[step]
        rows = rows_of(photos.features.global_, batch.references.global_)
        keypoints = photos.features.geometry.keypoints
        chosen = rows_of(keypoints.flatten(1), batch.shape_geometry.keypoints.flatten(1)[:, None])
        same = (rows == chosen) & batch.references.mask
        assert (same.sum(1) == 1).all()
        places.update(same.int().argmax(1)[batch.references.mask.all(1)].tolist())
    assert set(places) == {0, 1, 2, 3}


def test_a_tenth_of_the_prompts_is_dropped(photos) -> None:
    batches = make(photos, steps=40)
    empty = photos.features.empty_text.words[0]
    dropped = [torch.equal(text, empty) for step in range(40) for text in batches[step].text.words]
    assert sum(dropped) / len(dropped) == pytest.approx(0.1, abs=0.03)
    never = make(photos, prompt_dropout=0.0)[0]
    torch.testing.assert_close(never.text.words, photos.features.text(never.target_index).words)


def assert_equal(first: Batch, second: Batch) -> None:
    torch.testing.assert_close(drawn_tensors(first), drawn_tensors(second), rtol=0, atol=0)


def drawn_tensors(batch: Batch) -> list[torch.Tensor | None]:
    """List the tensors that depend on the draw of samples."""
    references = vars(batch.references).values()
    return [*references, batch.text.words, batch.target_index, batch.identity]


def test_seed_and_step_alone_decide_a_batch(photos) -> None:
    batches = make(photos)
    torch.manual_seed(1)
    late = batches[7]
    torch.manual_seed(2)
    assert_equal(make(photos)[7], late)
    assert not torch.equal(batches[6].target_index, late.target_index)
    assert not torch.equal(make(photos, seed=1)[7].target_index, late.target_index)


def test_devices_share_the_same_batch(photos) -> None:
    whole, second = make(photos)[5], make(photos)
    second.rank, second.world_size = 1, 4
    torch.testing.assert_close(second[5].target_index, whole.target_index[1::4])
    torch.testing.assert_close(second[5].references.mask, whole.references.mask[1::4])


def test_an_identity_with_few_photos_gives_what_it_has(photos) -> None:
    store = photos.store
    store.identity[0:6] = ["few"] * 2 + ["left over"] * 4
    few = replace(photos, identities=("few", *photos.identities[1:]))
    batches = TrainingBatches(few, refs=4, batch_size=64, steps=1, seed=0)
    batch = batches[0]
    of_few = batch.target_index < 2
    assert of_few.any()
    assert (batch.references.mask[of_few].sum(1) == 1).all()
    assert not ((batch.target_index >= 2) & (batch.target_index < 6)).any()


def test_too_many_references_are_refused_with_the_remedy(photos) -> None:
    make(photos, refs=5)
    with pytest.raises(
        ValueError, match=r"refs=6 is too many.*7 photos.*has 6\. Lower refs or add photos"
    ):
        make(photos, refs=6)
    with pytest.raises(ValueError, match="refs=0: a whole number from 1 is needed"):
        make(photos, refs=0)
    photos.store.identity[:] = [str(row) for row in range(len(photos.store))]
    alone = replace(photos, identities=("0", "1"))
    with pytest.raises(ValueError, match=r"an identity with 2 photos, and the largest has 1\."):
        make(alone, refs=1)


class Recorder(LightningModule):
    """A module that records the targets of its training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.seen.append(batch.target_index.tolist())
        return (self.weight * batch.latents.mean()).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(photos, folder, stop: int, steps: int = 6, checkpoint=None) -> Recorder:
    module = Recorder()
    trainer = Trainer(
        max_steps=stop, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, PortraitData(make(photos, steps=steps)), ckpt_path=checkpoint)
    assert trainer.global_step == stop
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def test_a_resumed_trainer_sees_what_an_unstopped_one_would(photos, tmp_path) -> None:
    whole = fit(photos, tmp_path, stop=6).seen
    assert len({tuple(targets) for targets in whole}) == 6
    before = fit(photos, tmp_path, stop=2).seen
    after = fit(photos, tmp_path, stop=6, checkpoint=tmp_path / "last.ckpt").seen
    assert before + after == whole


def test_a_batch_that_the_devices_cannot_share_is_refused(photos, tmp_path) -> None:
    data = PortraitData(make(photos, batch_size=7))
    data.trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False, default_root_dir=tmp_path
    )
    with pytest.raises(ValueError, match=r"batch_size=7 does not divide by 2 devices"):
        data.train_dataloader()
