"""3DDFA on real photos, where such photos and its files are present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from placed import REAL
from torch import Tensor

from portraitlab.app.cli.main import main
from portraitlab.data.photo import read_photo
from portraitlab.data.portrait import cut_portrait
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.insightface import InsightFaceEncoder
from portraitlab.faces.face3d.regressor import PhotoRegressor
from portraitlab.faces.face3d.tddfa import load_tddfa
from portraitlab.method.select.angle import angle_score, rotation_of_keypoints
from portraitlab.tables.composing import composed
from portraitlab.types import FaceCoefficients, FaceGeometry
from portraitlab.world.pretrained import load_clip

FILES = REAL / "weights" / "threeddfa"
PACKS = REAL / "weights" / "insightface"

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason=f"no real photos and 3DMM at {REAL}")


@pytest.fixture(scope="module")
def encoder() -> InsightFaceEncoder:
    return InsightFaceEncoder(str(PACKS), load_clip(), "lab_mbf", face3d=load_tddfa(str(FILES)))


def two_photos_each() -> list[Path]:
    """Two photos of each of eight people, one after the other."""
    folders = [sorted(folder.iterdir()) for folder in sorted((REAL / "photos").iterdir())]
    return [path for paths in folders[::3] if len(paths) > 1 for path in paths[:2]][:16]


@pytest.fixture(scope="module")
def people(encoder: InsightFaceEncoder) -> tuple[Tensor, FaceGeometry, Tensor]:
    """Portraits, what the encoder says of them, and the mean side of each face's box [B].

    The box is the detector's own, as a fraction of the portrait.
    """
    portraits, sides = [], []
    for path in two_photos_each():
        photo = read_photo(path)
        extent = np.array(photo.image.shape[1::-1])
        border = round(extent.max() / 2)  # without one, a face that fills the frame is not found
        bordered = np.pad(photo.image, ((border, border), (border, border), (0, 0)))
        boxes, points = encoder._detect(bordered, 320)
        best, points = boxes[:, 4].argmax(), points - border
        portrait = cut_portrait(photo, (points[best] / extent).astype(np.float32), 32)
        portraits.append(photo_tensor(portrait.resized(256)))
        sides.append(float(np.diff(boxes[best, [[0, 2], [1, 3]]]).mean()) / len(portrait.pixels))
    images = torch.cat(portraits)
    return images, encoder.analyse(images), torch.tensor(sides)


def test_landmarks_lie_on_the_detectors_keypoints(encoder, people) -> None:
    _, geometry, sides = people
    assert len(sides) == 16
    assert (geometry.score > 0.5).all()
    fitted = encoder.face3d.face_model.keypoints(geometry.coefficients)
    error = (fitted - geometry.keypoints).norm(dim=-1).mean(dim=1) / sides
    assert error.median() < 0.03
    assert error.max() < 0.06


def test_a_swapped_shape_keeps_the_pose_and_changes_the_jaw(encoder, people) -> None:
    _, geometry, sides = people
    model, own = encoder.face3d.face_model, geometry.coefficients
    swapped = FaceCoefficients(own.shape.roll(2, 0), own.expression, own.pose)
    before, after = model.landmarks(own), model.landmarks(swapped)
    moved = (after - before).norm(dim=-1) / sides[:, None]
    # As five points tell the pose, which know nothing of the 3DMM: at most six degrees apart.
    seen = [rotation_of_keypoints(model.keypoints(each)) for each in (own, swapped)]
    assert angle_score(*seen).min() > 1 - 6 / 90
    eyes, jaw = moved[:, 36:48].mean(dim=1), moved[:, :17].mean(dim=1)
    assert jaw.median() > 0.008
    assert jaw.median() > 2 * eyes.median()


def test_two_photos_of_one_person_have_more_alike_shapes_than_of_two(people) -> None:
    shape = people[1].coefficients.shape
    distance = torch.cdist(shape, shape)
    person = torch.arange(len(shape)) // 2
    same = (person[:, None] == person) & ~torch.eye(len(shape), dtype=torch.bool)
    assert distance[same].median() < 0.8 * distance[person[:, None] != person].median()


def test_cond_and_judge_read_what_the_encoder_fitted(encoder, people) -> None:
    images, geometry, _ = people
    settings = OmegaConf.create(
        composed(
            [
                *("encoder=insightface", f"encoder.root={PACKS}", "encoder.name=lab_mbf"),
                *("face3d=bfm", f"face3d.root={FILES}", "cond=landmarks"),
            ]
        )
    )
    cond = instantiate(settings.cond)
    control = cond(geometry[:2], geometry[2:4], 64)
    assert control.shape == (2, 3, 64, 64)
    assert (control > -1).any()
    view = instantiate(settings.judge).view([images[:2]])
    assert view.has_face.all()
    torch.testing.assert_close(view.expression, geometry.coefficients.expression[:2])
    torch.testing.assert_close(view.pose, geometry.coefficients.pose[:2, :3])
    bare = InsightFaceEncoder(str(PACKS), load_clip(), "lab_mbf")
    assert bare.fingerprint != encoder.fingerprint
    with pytest.raises(ValueError, match="fits none; choose face3d=bfm or face3d=flame"):
        PhotoRegressor(bare)(images[:2])


def test_the_command_draws_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, photos = tmp_path / "faces.png", [str(path) for path in two_photos_each()[1:3]]
    files = tmp_path / "my files, a=b"
    files.symlink_to(FILES)
    given = ["--root", str(files), "--packs", str(PACKS), "--out", str(out)]
    assert main(["faces", *photos, *given]) == 0
    assert capsys.readouterr().out == f"sheet: {out}\n"
    sheet = np.asarray(Image.open(out))
    assert sheet.shape[0] > 2 * 256
    assert sheet.shape[1] > 3 * 256
    assert main(["faces", *photos, *given, "--pack", "lab_mbf"]) == 0
    assert main(["faces", *photos, *given, "--pack", "nobody"]) == 1
    assert "encoder.name=nobody is not in encoder.root" in capsys.readouterr().err
    twice = np.tile(read_photo(Path(photos[0])).image, (1, 2, 1))
    Image.fromarray(twice).save(tmp_path / "two.png")
    assert main(["faces", str(tmp_path / "two.png"), *given]) == 1
    assert "two.png shows 2 faces, not one; give another photo" in capsys.readouterr().err
    blank = tmp_path / "blank.png"
    Image.new("RGB", (64, 64)).save(blank)
    assert main(["faces", str(blank), *given]) == 1
    assert "blank.png shows no face; give another photo" in capsys.readouterr().err
    assert main(["faces", *photos, *given, "--face3d", "flame"]) == 1
    assert "is missing files that you have to download" in capsys.readouterr().err
