"""The balanced order: everybody once an epoch, the same at every world size, without state."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from portraitlab.data.balanced import BalancedOrder
from portraitlab.data.batches import TrainingBatches
from portraitlab.runs.key import content_hash

COUNTS = np.array([3, 1, 5, 2, 4, 2, 7])


def photo_at(order: BalancedOrder, place: int) -> tuple[int, int]:
    """Return the identity and the photo at one place."""
    (identity,), (photo,) = order.at(np.array([place]))
    return int(identity), int(photo)


def epoch_of(order: BalancedOrder, epoch: int, world_size: int) -> list[tuple[int, int]]:
    """Collect the places of an epoch from all ranks, in their order."""
    places = {}
    for rank in range(world_size):
        for position in range(-(-(len(order) - rank) // world_size)):
            place = position * world_size + rank
            places[place] = photo_at(order, epoch * len(order) + place)
    return [places[place] for place in sorted(places)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_all_ranks_together_show_everybody_once_an_epoch(world_size: int) -> None:
    order = BalancedOrder(COUNTS, seed=4)
    for epoch in range(5):
        shown = epoch_of(order, epoch, world_size)
        assert sorted(identity for identity, _ in shown) == list(range(len(COUNTS)))
        assert shown == epoch_of(order, epoch, 1)


def test_an_identity_shows_each_photo_once_before_any_again() -> None:
    order = BalancedOrder(COUNTS, seed=0)
    epochs = [dict(epoch_of(order, epoch, 1)) for epoch in range(21)]
    for identity, count in enumerate(COUNTS):
        photos = [epoch[identity] for epoch in epochs]
        for turn in range(len(photos) // count):
            assert sorted(photos[turn * count : (turn + 1) * count]) == list(range(count))
    assert len({tuple(epoch[6] for epoch in epochs[start : start + 7]) for start in (0, 7)}) == 2


def test_a_place_is_the_same_whoever_asks_and_whatever_was_asked_before() -> None:
    whole = [BalancedOrder(COUNTS, seed=1).at(np.arange(70))]
    late = BalancedOrder(COUNTS, seed=1)
    np.testing.assert_array_equal(late.at(np.arange(33, 70)), np.array(whole[0])[:, 33:])
    np.testing.assert_array_equal(late.at(np.array([3])), np.array(whole[0])[:, 3:4])
    epochs = [tuple(whole[0][0][start : start + 7]) for start in range(0, 70, 7)]
    assert len(set(epochs)) > 8
    assert not np.array_equal(BalancedOrder(COUNTS, seed=2).at(np.arange(70))[0], whole[0][0])


def test_every_order_is_as_likely() -> None:
    first = Counter(photo_at(BalancedOrder(COUNTS, seed), 0)[0] for seed in range(700))
    assert all(60 < first[identity] < 145 for identity in range(7)), first


def test_an_identity_without_photos_is_refused() -> None:
    with pytest.raises(ValueError, match="needs identities with a photo each"):
        BalancedOrder(np.array([2, 0]), seed=0)


def make(photos, **settings) -> TrainingBatches:
    usual = {"refs": 4, "batch_size": 4, "steps": 40, "seed": 0, "order": "balanced"}
    return TrainingBatches(photos, **(usual | settings))


def test_batches_take_people_in_turn_and_aim_at_all_their_sound_photos(photos) -> None:
    batches = make(photos)
    identity = np.array(photos.store.identity)
    targets = torch.cat([batches[step].target_index for step in range(40)])
    shown = identity[targets]
    for start in range(0, 159, 3):
        assert len(set(shown[start : start + 3])) == 3
    flawed = np.array(photos.store.flawed)
    assert flawed.any()
    assert set(targets.tolist()) == set(np.flatnonzero(~flawed).tolist())
    for step in range(3):
        batch = batches[step]
        people = photos.features.global_[torch.arange(len(photos.store))]
        rows = (batch.references.global_[:, :, None] - people).abs().sum(-1).argmin(-1)
        mask = batch.references.mask
        assert (identity[rows] == identity[batch.target_index][:, None])[mask].all()
        assert (rows != batch.target_index[:, None])[mask].all()


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_devices_share_a_balanced_batch_and_a_later_step_needs_no_earlier(photos, devices) -> None:
    whole = make(photos)[17].target_index
    shares = []
    for rank in range(devices):
        batches = make(photos)
        batches.rank, batches.world_size = rank, devices
        shares.append(batches[17].target_index)
    assert torch.equal(torch.stack(shares, dim=1).flatten(), whole)


def test_people_with_flaws_only_and_alone_are_minded(photos) -> None:
    store = photos.store
    store.flawed = [True] * 6 + store.flawed[6:]
    store.identity[6:12] = ["alone", *store.identity[7:12]]
    targets = torch.cat([make(photos)[step].target_index for step in range(40)]).tolist()
    assert set(range(6)) < set(targets)
    assert 6 not in targets


def test_an_unknown_order_is_refused(photos) -> None:
    with pytest.raises(ValueError, match=r"order=sorted: choose one of shuffled, balanced"):
        make(photos, order="sorted")


def test_the_order_names_a_run_only_where_it_is_not_what_it_always_was() -> None:
    before = content_hash({"seed": 0}, ("seed", "order"))
    assert content_hash({"seed": 0, "order": "shuffled"}, ("seed", "order")) == before
    assert content_hash({"seed": 0, "order": "balanced"}, ("seed", "order")) != before
