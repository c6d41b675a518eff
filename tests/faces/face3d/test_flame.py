"""FLAME against a slow reference, and DECA's numbers against its published projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published import PARENTS, flame_arrays, write_deca, write_flame
from scipy.spatial.transform import Rotation

from portraitlab.faces.face3d.deca import SIZES, load_deca
from portraitlab.faces.face3d.flame import Flame, axis_rotations, contour_rows, load_flame
from portraitlab.faces.face3d.linear import rotation_angles, rotation_matrices
from portraitlab.types import FaceCoefficients

Arrays = dict[str, Any]


@pytest.fixture
def published(tmp_path: Path) -> tuple[Flame, Arrays, Arrays]:
    """Load the model; return it with the content of its files."""
    model, embedding = write_flame(tmp_path)
    return load_flame(str(tmp_path)), model, embedding


def random_coefficients(batch: int, seed: int = 0) -> FaceCoefficients:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.randn(batch, 6, generator=generator) * 0.4
    pose[:, 3:] = torch.tensor([2.0, 0.5, 0.5])
    expression = torch.randn(batch, 53, generator=generator)
    expression[:, 50:] *= 0.3
    return FaceCoefficients(torch.randn(batch, 100, generator=generator), expression, pose)


def slow_vertices(
    model: Arrays, shape: NDArray[Any], expression: NDArray[Any], head: NDArray[Any]
) -> NDArray[Any]:
    """FLAME one vertex and one joint at a time, with 4 x 4 matrices; head [3, 3] turns the root."""
    directions = model["shapedirs"]
    rest = model["v_template"].copy()
    for number in range(100):
        rest += shape[number] * directions[:, :, number]
    for number in range(50):
        rest += expression[number] * directions[:, :, 300 + number]
    joints = model["J_regressor"].toarray() @ rest
    jaw = Rotation.from_rotvec(expression[50:]).as_matrix()
    rotations = [head, np.eye(3), jaw, np.eye(3), np.eye(3)]
    bent = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    frames: list[NDArray[Any]] = []
    for joint, parent in enumerate(PARENTS):
        frame = np.eye(4)
        frame[:3, :3] = rotations[joint]
        frame[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        frames.append(frames[parent] @ frame if joint else frame)
    vertices = np.empty_like(rest)
    for vertex in range(len(rest)):
        posed = rest[vertex] + model["posedirs"][vertex] @ bent
        blended = np.zeros(4)
        for joint in range(5):
            away = np.append(posed - joints[joint], 1)
            blended += model["weights"][vertex, joint] * (frames[joint] @ away)
        vertices[vertex] = blended[:3]
    return vertices


def slow_landmarks(
    vertices: NDArray[Any], model: Arrays, embedding: Arrays, head: NDArray[Any]
) -> NDArray[Any]:
    """Pick the 17 contour landmarks by the head's yaw, then the 51 fixed ones: [68, 3]."""
    degrees = np.degrees(np.arctan2(-head[2, 0], np.hypot(head[0, 0], head[1, 0])))
    whole = int(np.round(min(degrees, 39)))
    row = whole if whole >= 0 else 78 if whole < -39 else 39 - whole
    triangles = [*embedding["dynamic_lmk_faces_idx"][row], *embedding["static_lmk_faces_idx"]]
    shares = [*embedding["dynamic_lmk_bary_coords"][row], *embedding["static_lmk_bary_coords"]]
    return np.array(
        [
            sum(float(share[i]) * vertices[model["f"][int(triangle)][i]] for i in range(3))
            for triangle, share in zip(triangles, shares, strict=True)
        ]
    )


def test_vertices_and_landmarks_are_those_of_the_slow_reference(published) -> None:
    flame, model, embedding = published
    given = random_coefficients(6)
    given.pose[1, 0], given.pose[2, 0] = 1.0, -1.0  # beyond the contour's table
    vertices, landmarks = flame.vertices(given), flame.landmarks(given)
    assert flame.shape_size == 100
    assert flame.expression_size == 53
    for row in range(6):
        head = rotation_matrices(given.pose[row : row + 1, :3])[0].double().numpy()
        shape, expression = given.shape[row].double().numpy(), given.expression[row].double()
        slow = slow_vertices(model, shape, expression.numpy(), head)
        np.testing.assert_allclose(vertices[row].numpy(), slow, atol=1e-5)
        points = slow_landmarks(slow, model, embedding, head)
        _, _, _, scale, x, y = given.pose[row].tolist()
        image = np.array([x, y]) + scale * points[:, :2] * [1, -1]
        np.testing.assert_allclose(landmarks[row].numpy(), image, atol=2e-5)


def test_at_rest_the_template_is_seen(published) -> None:
    flame, model, _ = published
    pose = torch.tensor([[0.0, 0, 0, 1, 0, 0]])
    rest = FaceCoefficients(torch.zeros(1, 100), torch.zeros(1, 53), pose)
    np.testing.assert_allclose(flame.vertices(rest)[0].numpy(), model["v_template"], atol=1e-6)


def test_a_turn_of_the_head_moves_all_as_one(published) -> None:
    flame, model, _ = published
    still = random_coefficients(4)
    still.pose[:, :3] = 0
    turned = replace(still, pose=still.pose.clone())
    turned.pose[:, :3] = torch.randn(4, 3)
    rotations = rotation_matrices(turned.pose[:, :3])
    before, after = flame.vertices(still), flame.vertices(turned)
    joints = torch.as_tensor(model["J_regressor"].toarray(), dtype=torch.float32)
    bases = torch.cat([flame.shape_basis, flame.expression_basis])
    weights = torch.cat([still.shape, still.expression[:, :50]], dim=1)
    root = (joints @ (flame.template + torch.einsum("bs,svc->bvc", weights, bases)))[:, :1]
    torch.testing.assert_close(after - root, (before - root) @ rotations.mT, atol=1e-5, rtol=0)


def test_the_jaw_is_an_expression(published) -> None:
    flame, model, _ = published
    closed = random_coefficients(1)
    opened = replace(closed, expression=closed.expression.clone())
    opened.expression[:, 50] += 0.3
    moved = (flame.vertices(opened) - flame.vertices(closed)).norm(dim=-1)[0].numpy()
    share = model["weights"][:, 2]
    # What hangs on the jaw moves most; what little the others move is pose correctives.
    assert np.corrcoef(moved, share)[0, 1] > 0.5


def test_the_contour_follows_the_yaw() -> None:
    def row(degrees: float, *others: float) -> int:
        pose = torch.zeros(1, 6)
        pose[0, 0] = np.radians(degrees)
        pose[0, 1 : 1 + len(others)] = torch.tensor(others)
        return int(contour_rows(pose))

    assert [row(d) for d in (0, 0.4, 1, 38.6, 39, 60, 120)] == [0, 0, 1, 39, 39, 39, 39]
    assert [row(d) for d in (-0.4, -1, -20, -39, -60)] == [0, 40, 59, 78, 78]
    assert row(20, 0.0, 1.0) == 20  # roll turns the picture and not the head


def test_rotations_and_angles_are_each_other_s_inverse() -> None:
    turns = Rotation.random(200, random_state=0)
    matrices = axis_rotations(torch.as_tensor(turns.as_rotvec()))
    np.testing.assert_allclose(matrices.numpy(), turns.as_matrix(), atol=1e-12)
    again = rotation_matrices(rotation_angles(matrices))
    torch.testing.assert_close(again, matrices, atol=1e-6, rtol=0)
    assert axis_rotations(torch.zeros(1, 3)).equal(torch.eye(3)[None])


def test_deca_s_numbers_land_where_deca_projects_them(tmp_path: Path) -> None:
    model, embedding = write_flame(tmp_path)
    network = write_deca(tmp_path)
    fitter = load_deca(str(tmp_path))
    crops = torch.rand(2, 3, 224, 224) * 2 - 1
    numbers = network((crops + 1) / 2)
    assert numbers.shape == (2, 236)
    found = fitter.estimate(crops)
    landmarks = fitter.face_model.landmarks(found)
    for row in range(2):
        parts = dict(zip(SIZES, numbers[row].double().split([*SIZES.values()]), strict=True))
        head = Rotation.from_rotvec(parts["head"].numpy()).as_matrix()
        expression = np.concatenate([parts["expression"], parts["jaw"]])
        vertices = slow_vertices(model, parts["shape"].numpy(), expression, head)
        points = slow_landmarks(vertices, model, embedding, head)
        # s (x + t), and y turned down, in a crop from -1 to 1.
        scale, x, y = parts["camera"].tolist()
        seen = np.stack([scale * (points[:, 0] + x), -scale * (points[:, 1] + y)], axis=1)
        np.testing.assert_allclose(landmarks[row].numpy(), (seen + 1) / 2, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in fitter.parameters())
    centre_and_edge = fitter.squares(landmarks)
    box = landmarks.amax(1) - landmarks.amin(1)
    torch.testing.assert_close(centre_and_edge[:, 2], 1.375 * box.mean(1))


def test_missing_files_are_named_with_their_source_and_licence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"face3d\.root=.*nowhere is no folder"):
        load_flame(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"is missing files that you have to download") as caught:
        load_deca(str(tmp_path))
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "deca_model.tar",
        "generic_model.pkl or generic_model.npz",
        "landmark_embedding.npy",
    ]
    assert all("non-commercial" in line for line in lines)
    assert "flame.is.tue.mpg.de" in lines[1]
    assert "Git LFS" not in str(caught.value)
    for name in ("deca_model.tar", "generic_model.pkl", "landmark_embedding.npy"):
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 9\n")
    (tmp_path / "generic_model.npz").write_bytes(b"of another kind")
    with pytest.raises(ValueError, match=r"is missing files that you have to download") as caught:
        load_deca(str(tmp_path))
    first, second = str(caught.value).splitlines()[1:]
    for line, source in ((first, "deca_model.tar: the trained"), (second, "embedding.npy: data/")):
        assert source in line
        assert line.endswith("; only a Git LFS pointer is there, fetch it with `git lfs pull`")


def test_other_files_of_these_names_are_refused(flame_files: Path, tmp_path: Path) -> None:
    for name in ("generic_model.pkl", "landmark_embedding.npy"):
        (tmp_path / name).symlink_to(flame_files / name)
    torch.save({"model": {}}, tmp_path / "deca_model.tar")
    with pytest.raises(ValueError, match=r"deca_model\.tar has no E_flame, only model"):
        load_deca(str(tmp_path))
    torch.save({"E_flame": {"layers.0.bias": torch.zeros(3)}}, tmp_path / "deca_model.tar")
    with pytest.raises(ValueError, match=r"deca_model\.tar is no coarse encoder of DECA"):
        load_deca(str(tmp_path))


def test_the_model_s_own_arrays_are_checked(tmp_path: Path) -> None:
    _, embedding = write_flame(tmp_path)
    whole = flame_arrays(np.random.default_rng(0))
    numbers = {name: value for name, value in whole.items() if not isinstance(value, str)}
    numbers["J_regressor"] = numbers["J_regressor"].toarray()
    (tmp_path / "generic_model.pkl").unlink()
    path = tmp_path / "generic_model.npz"
    np.savez(path, **numbers)  # the same arrays as an npz
    assert load_flame(str(tmp_path)).shape_size == 100
    np.savez(path, **{name: value for name, value in numbers.items() if name != "weights"})
    with pytest.raises(ValueError, match=r"generic_model\.npz has no weights, only J, "):
        load_flame(str(tmp_path))
    np.savez(path, **{**numbers, "shapedirs": numbers["shapedirs"][..., :110]})
    with pytest.raises(ValueError, match=r"has 110 bases, .* take generic_model\.pkl of FLAME"):
        load_flame(str(tmp_path))
    np.savez(path, **{**numbers, "f": numbers["f"][:9]})
    with pytest.raises(ValueError, match=r"names triangle 59, and .*npz has 9: they are not of"):
        load_flame(str(tmp_path))
    np.savez(path, **numbers)
    embedding["static_lmk_faces_idx"] = embedding["static_lmk_faces_idx"][:49]
    np.save(tmp_path / "landmark_embedding.npy", np.array(embedding, dtype=object))
    with pytest.raises(ValueError, match=r"has \[49\] fixed .* take DECA's file, not RingNet's"):
        load_flame(str(tmp_path))
