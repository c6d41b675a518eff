"""The body's skeleton in OpenPose's colours (FPGA, Sec. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.drawing import Colour, Stroke, draw
from portraitlab.types import BodyJoints, FaceGeometry
from portraitlab.world.stance import BONES

WIDTH = 0.016
"""Width of a limb as a fraction of the image: OpenPose's 8 of 512 pixels."""
DOT = 0.016
"""Diameter of a joint as a fraction of the image."""
_FAR = -9.0
"""Place of what is not drawn, far outside the image."""


def _rainbow(place: int) -> Colour:
    """Return OpenPose's colour of a joint or limb by its place: hues in steps of 20 degrees."""
    third, rest = divmod(place, 6)
    rising = min(1.0, rest / 3)
    falling = min(1.0, (6 - rest) / 3)
    return ((falling, rising, 0.0), (0.0, falling, rising), (rising, 0.0, falling))[third]


def _dimmed(colour: Colour) -> Colour:
    red, green, blue = colour
    return 0.6 * red, 0.6 * green, 0.6 * blue


_FIRST = 2 * len(BONES)  # the joints' dots come after the limbs' ends
_STROKES = (
    *(
        Stroke(((2 * limb, 2 * limb + 1),), _dimmed(_rainbow(limb)), WIDTH)
        for limb in range(len(BONES))
    ),
    *(
        Stroke(((place, place),), _rainbow(place - _FIRST), DOT)
        for place in range(_FIRST, _FIRST + 18)
    ),
)


class SkeletonCond(Cond):
    """Draw the visible joints and limbs of the target's body; the reference's shape is unused.

    A limb is drawn where both of its joints are visible, at 0.6 of its colour, and joints over
    limbs, as OpenPose's drawing for ControlNet has them.
    """

    body = True

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1].

        Raises ValueError where the photos have no joints.
        """
        body = target_geometry.body
        if body is None:
            raise ValueError(
                "Drawing a skeleton needs the body's joints, and these photos have none; choose "
                "data=world, prepared photos with joints (docs/data.md), cond=landmarks, or "
                "cond.drawn=landmarks of cond=landmarks_or_skeleton."
            )
        return draw_skeleton(body, size)


def draw_skeleton(body: BodyJoints, size: int) -> Tensor:
    """Draw skeletons [B, 3, size, size] in [-1, 1] on -1."""
    visible = body.visible.bool()
    first, second = torch.tensor(BONES, device=visible.device).unbind(dim=1)
    # Each limb has its own two points, so that it can be left out alone.
    ends = torch.stack([body.points[:, first], body.points[:, second]], dim=2).flatten(1, 2)
    both = (visible[:, first] & visible[:, second]).repeat_interleave(2, dim=1)
    points = torch.cat([ends, body.points], dim=1)
    drawn = torch.cat([both, visible], dim=1)
    return draw(points.masked_fill(~drawn[..., None], _FAR), _STROKES, size)
