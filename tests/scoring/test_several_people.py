"""People of a picture are judged one by one, each where they should be (FPGA, Sec. 4.1)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from crowd import make_crowd, without_person
from test_metrics import make_judged

from portraitlab.data.testset import Sample
from portraitlab.faces.alignment import face_boxes
from portraitlab.faces.detector.base import find_faces
from portraitlab.faces.detector.world import WorldFaces
from portraitlab.method.cond.none import NoCond
from portraitlab.method.edit.base import Edit, Edited, KnownFaces
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.none import NoNet
from portraitlab.scoring.draw import Portraits
from portraitlab.scoring.edit import edit_portraits
from portraitlab.scoring.judge import Judge
from portraitlab.scoring.metrics.clip_t import ClipT
from portraitlab.scoring.metrics.count import Count
from portraitlab.scoring.metrics.fid import Fid
from portraitlab.scoring.metrics.sim_f import SimF
from portraitlab.scoring.metrics.weakest_f import WeakestF
from portraitlab.scoring.people import assigned, view_faces, view_people
from portraitlab.types import FaceGeometry, Pictures
from portraitlab.world.canvas import render_canvas
from portraitlab.world.pretrained import (
    load_clip,
    load_detector,
    load_recogniser,
    load_regressor,
)
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

SEEDS = IDENTITIES["development"][:5]


def tensor(image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(
        load_recogniser("judge"),
        load_clip(),
        load_regressor(),
        detector=WorldFaces(load_detector()),
    ).eval()


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A group of two and one of three: images, the picture of each person, and their keypoints."""
    photos = [render_canvas(SEEDS[:2], 4, "group"), render_canvas(SEEDS[2:], 4, "group")]
    images = torch.cat([tensor(photo.image) for photo in photos])
    place = torch.tensor([0, 0, 1, 1, 1])
    points = [person.face.keypoints for photo in photos for person in photo.people]
    return images, place, torch.stack([torch.from_numpy(each).float() for each in points])


def test_each_person_is_recognised_at_their_own_place(judge, pictures) -> None:
    images, place, points = pictures
    seen = view_people(judge, images, place, points, 64)
    assert seen.has_face.all()
    assert seen.faces.tolist() == [2, 2, 3, 3, 3]
    portraits = judge.view([torch.cat([tensor(render_photo(s, 1).image) for s in SEEDS])])
    likeness = seen.identity @ portraits.identity.T
    assert (likeness.diag() > likeness.fill_diagonal_(-1).amax(dim=1)).float().mean() >= 0.8
    # A picture as a whole is the same for all of its people.
    assert torch.equal(seen.picture[0], seen.picture[1])
    assert not torch.equal(seen.picture[1], seen.picture[2])


def test_face_features_are_of_the_close_up_and_real_faces_are_seen_alike(judge, pictures) -> None:
    images, place, points = pictures
    seen = view_people(judge, images, place, points, 64, wanted=["face_features"])
    assert not torch.allclose(seen.face_features, seen.features)
    found = view_faces(judge, images, 64).features
    assert len(found) == 5
    # All faces are found: the same close-ups, in the detector's order.
    apart = torch.cdist(found, seen.face_features)
    assert sorted(apart.argmin(dim=1).tolist()) == [0, 1, 2, 3, 4]
    assert apart.min(dim=1).values.max() < 1e-4
    assert view_people(judge, images, place, points, 64).face_features is None
    portrait = judge.view([images], wanted=["face_features"])
    assert torch.equal(portrait.face_features, portrait.features)


def test_a_person_elsewhere_has_no_face(judge, pictures) -> None:
    images, place, points = pictures
    moved = points.clone()
    moved[0] += 0.6 * (face_boxes(points[0])[2] - face_boxes(points[0])[0])
    seen = view_people(judge, images, place, moved, 64)
    assert seen.has_face.tolist() == [False, True, True, True, True]


def test_a_judge_without_a_detector_names_the_remedy(pictures) -> None:
    bare = Judge(load_recogniser("judge"), load_clip(), load_regressor()).eval()
    with pytest.raises(ValueError, match="canvas=bodies"):
        view_people(bare, *pictures, 64)


def test_faces_are_assigned_so_that_boxes_overlap_most() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        people = torch.rand(3, 1, 2, generator=generator) + 0.2 * torch.rand(
            3, 5, 2, generator=generator
        )
        faces = people[torch.randperm(3, generator=generator)] + 0.05 * torch.rand(
            3, 1, 2, generator=generator
        )

        def overlap(one: torch.Tensor, two: torch.Tensor) -> float:
            a, b = face_boxes(one).tolist(), face_boxes(two).tolist()
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            both = width * height
            areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
            return both / (areas - both)

        best = max(
            itertools.permutations(range(3)),
            key=lambda order: sum(overlap(people[i], faces[j]) for i, j in enumerate(order)),
        )
        expected = [(i, j) for i, j in enumerate(best) if overlap(people[i], faces[j]) > 0.5]
        assert assigned(people, faces) == expected


def test_a_picture_of_several_counts_once_where_it_is_seen_whole() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 1, 2]))
    first = [0, 2, 5]
    for metric in (Fid(), ClipT()):
        metric.update(judged)
        whole = metric.compute()
        metric.reset()
        metric.update(replace(judged[first], population=judged.population))
        assert whole.value == pytest.approx(metric.compute().value)
        assert whole.samples == 3


def test_the_weakest_person_of_a_picture_counts() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 1, 2]))
    single, weakest = SimF(), WeakestF()
    likeness = single.measure(judged)
    expected = torch.stack([likeness[:2].min(), likeness[2:5].min(), likeness[5]])
    torch.testing.assert_close(weakest.measure(judged)[[0, 2, 5]], expected)
    assert weakest.measure(judged)[[1, 3, 4]].isnan().all()


def test_pictures_are_counted_where_every_person_is_drawn() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 1, 2]))
    found = replace(judged.generated, faces=torch.tensor([2, 2, 2, 2, 2, 1]))
    right = Count().measure(replace(judged, generated=found))
    assert right[[0, 2, 5]].tolist() == [1.0, 0.0, 1.0]


class _Greyed(Edit):
    """An edit that greys the middle of each face, and keeps what it was given."""

    def __init__(self) -> None:
        self.detector = WorldFaces(load_detector())

    def find(self, picture: torch.Tensor) -> FaceGeometry:
        return find_faces(self.detector, picture)

    def __call__(self, model, encoder, pictures, faces: KnownFaces) -> Edited:
        self.faces = faces
        changed = [picture.clone() for picture in pictures]
        for number, points in zip(faces.picture.tolist(), faces.keypoints, strict=True):
            x, y = (points.mean(dim=0) * pictures[0].shape[-1]).long().tolist()
            changed[number][:, y, x] = 0
        return Edited(changed, [""] * len(faces), [])


def test_each_face_of_a_group_is_edited_as_its_own_person(pictures, tiny_backbone) -> None:
    images, place, points = pictures
    batch = make_crowd(batch=2, people=3)
    batch = without_person(batch, 0, 2)
    expected = torch.zeros(2, 3, 5, 2)
    expected[0, :2], expected[1] = points[place == 0], points[place == 1]
    # In the second picture, the people are listed in another order than the faces were rendered.
    expected[1] = expected[1][[2, 0, 1]]
    batch = replace(batch, target_geometry=replace(batch.target_geometry, keypoints=expected))
    samples = [
        Sample(str(number), 0, (), 0, (), picture, "", scene=str(picture))
        for number, picture in enumerate(place.tolist())
    ]
    edit = _Greyed()
    backbone = tiny_backbone()
    model = PortraitModel(backbone, NoFusion(4, 4, 16), NoCond(), NoNet(backbone, False, False))
    edited = edit_portraits(edit, model, None, Portraits(images, batch, samples))
    # The square of a face is no group, whatever the caption says.
    assert len(edit.faces.text.words) == 5
    torch.testing.assert_close(
        edit.faces.text.words[3], backbone.encode_text(["a photo of a person"]).words[0]
    )
    assert edit.faces.picture.tolist() == [0, 0, 1, 1, 1]
    people = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    for row, (picture, person) in enumerate(people):
        own = batch.references[picture, person]
        assert torch.equal(edit.faces.references.global_[row], own.global_)
        # The face is the one at the person's place, and at nobody else's.
        away = edit.faces.keypoints[row].mean(dim=0) - expected[picture].mean(dim=1)
        assert int(away.norm(dim=1).argmin()) == person
    assert (edited.images != images).any(dim=1).flatten(1).sum(dim=1).tolist() == [2, 3]


def test_a_net_that_reads_a_profile_edits_no_groups(pictures) -> None:
    images, place, _ = pictures
    batch = make_crowd(batch=2, people=3)
    assert batch.regions is not None
    blank = torch.zeros(2, 3, 8, 8)
    profile = Pictures(blank, blank, blank, blank[:, :1], torch.ones(2) > 0, torch.arange(2))
    samples = [Sample(str(row), 0, (), 0, (), int(at), "") for row, at in enumerate(place)]
    drawn = Portraits(images, replace(batch, pictures=profile), samples)
    with pytest.raises(ValueError, match=r"edits portraits of one person; .*task=restore"):
        edit_portraits(_Greyed(), None, None, drawn)
