"""Measure the people of a drawn scene: landmarks, joints, boxes and regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from portraitlab.world.camera import project, rotation
from portraitlab.world.identity import Identity
from portraitlab.world.landmarks import KEYPOINTS_FROM_72, landmark_model
from portraitlab.world.mesh import HALF_WIDTH, Array
from portraitlab.world.parts import HEAD, PARTS
from portraitlab.world.photo import Face, Person
from portraitlab.world.pixels import owners
from portraitlab.world.settings import PhotoSettings
from portraitlab.world.stance import HANGING, body_joints

COVERED_BY = np.array(
    [0.15, 0.8, *[0.5] * 6, *[0.75] * 2, 0.5, *[0.75] * 2, 0.5, *[0.25] * 4], np.float32
)
"""Head units by which the person's surface may be in front of a visible joint [18].

Joints are inside limbs and bodies, eyes behind glasses.
"""
BEHIND = 100.0
"""Depth between two people, more than the extent of any person."""


def person(
    identity: Identity,
    settings: PhotoSettings,
    order: int,
    labels: NDArray[np.int32],
    depth: Array,
    region: NDArray[np.bool_],
) -> Person:
    """Measure person number `order` of a scene.

    labels and depth [F, F]: as drawn, where F is a multiple of H; region [H, W]: of this person.
    """
    step = len(labels) // len(region)
    drawn = labels[::step, ::step]
    points = landmark_model().points(identity.shape, settings.expression)
    landmarks = project(points, settings.pose)
    joints, visible = _joints(identity, points, settings, order, depth)
    return Person(
        face=_face(identity, settings, landmarks, drawn == PARTS * order + HEAD),
        face_box=np.concatenate([landmarks.min(0), landmarks.max(0)]),
        joints=joints,
        visible=visible,
        region=region,
    )


def regions(
    labels: NDArray[np.int32], person_mask: NDArray[np.bool_], people: int
) -> list[NDArray[np.bool_]]:
    """Assign each pixel of person_mask [H, W] to the person who fills most of it.

    labels [F, F]: as drawn, where F is a multiple of H.
    """
    if people == 1:
        return [person_mask]
    owner = owners(labels, len(labels) // len(person_mask), PARTS, people)
    return [person_mask & (owner == order) for order in range(people)]


def _face(
    identity: Identity, settings: PhotoSettings, landmarks: Array, head: NDArray[np.bool_]
) -> Face:
    """Measure the face whose head is drawn on the pixels `head` [H, W]."""
    size = len(head)
    outline = np.concatenate([landmarks[:17], landmarks[[71, 70]]]) * size - 0.5
    area = Image.new("1", (size, size))
    ImageDraw.Draw(area).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return Face(
        identity=identity.seed,
        landmarks=landmarks[:68],
        landmarks72=landmarks,
        keypoints=landmarks[list(KEYPOINTS_FROM_72)],
        shape=identity.shape,
        expression=settings.expression,
        pose=settings.pose,
        face_mask=np.asarray(area) & head,
    )


def _joints(
    identity: Identity, points: Array, settings: PhotoSettings, order: int, depth: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Compute places [18, 2] and visibility [18] of OpenPose's joints from landmarks [72, 3]."""
    ear = HALF_WIDTH * (1 + 0.07 * float(identity.shape[0]))
    ears = np.array([[-ear, 0.02, -0.06], [ear, 0.02, -0.06]], np.float32)
    head = np.concatenate([points[[30, 68, 69]], ears]) @ rotation(*settings.pose[:3]).T
    body = body_joints(settings.stance or HANGING) @ rotation(settings.body_yaw, 0.0, 0.0).T
    turned = np.concatenate([head[:1], body, head[1:]])
    joints = np.array([settings.x, settings.y]) + settings.scale * turned[:, :2] * [1, -1]

    # A joint is visible if no other surface is in front of it.
    size = len(depth)
    cell = np.floor(joints * size).astype(int)
    inside = ((cell >= 0) & (cell < size)).all(1)
    column, row = np.clip(cell, 0, size - 1).T
    nearest = (depth[row, column] - BEHIND * order) / settings.scale
    visible = inside & (nearest - turned[:, 2] < COVERED_BY)
    return joints.astype(np.float32), visible
