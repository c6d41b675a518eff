"""Rendered photos with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portraitlab.world.mesh import Array

FAR = np.float32(-1e9)
"""Depth of the background."""


@dataclass(frozen=True)
class Face:
    """A face of a photo; points are image fractions.

    identity: seed of the person. landmarks [68, 2], landmarks72 [72, 2], keypoints [5, 2]. shape
    [18], expression [8], pose [6]: true coefficients. face_mask [H, W] bool.
    """

    identity: int
    landmarks: Array
    landmarks72: Array
    keypoints: Array
    shape: Array
    expression: Array
    pose: Array
    face_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Person:
    """A person of a photo; points are image fractions.

    face_box [4]: left, top, right and bottom of the face's landmarks, which may leave the frame.
    joints [18, 2]: OpenPose's, in the order of stance.JOINTS. visible [18] bool: True for joints
    that are in the frame and not hidden. region [H, W] bool: pixels that show the person.
    """

    face: Face
    face_box: Array
    joints: Array
    visible: NDArray[np.bool_]
    region: NDArray[np.bool_]


@dataclass(frozen=True)
class Light:
    """The light of a photo, which multiplies surface colours before the photo's style is applied.

    direction [3]: unit vector to the directional light, in the camera's frame (x to the image's
    right, y up, z at the viewer). directional and ambient [3]: RGB. brightest [3]: unit vector to
    where ambient light is brightest; a surface facing away has half of it.
    """

    direction: Array
    directional: Array
    ambient: Array
    brightest: Array


@dataclass(frozen=True)
class Photo:
    """A rendered photo.

    image [H, W, 3] uint8 RGB. person_mask [H, W]: everything that is not background. people: in
    the order in which they were given. flaws: reasons why it is a poor reference (blurred, dim
    light, mask …). depth [2H, 2W]: distance of the nearest surface before its head's centre in
    image fractions, plus 100 for each person drawn earlier; FAR for the background. camera_yaw:
    see PhotoSettings.
    """

    image: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]
    people: tuple[Person, ...]
    caption: str
    description: str
    flaws: tuple[str, ...]
    depth: Array
    light: Light
    camera_yaw: float

    @property
    def face(self) -> Face:
        """Face of the first person, for portraits the only one."""
        return self.people[0].face

    @property
    def landmarks(self) -> Array:
        """Landmarks in iBUG order [68, 2]."""
        return self.face.landmarks

    @property
    def landmarks72(self) -> Array:
        """Landmarks with pupils and temples [72, 2]."""
        return self.face.landmarks72

    @property
    def keypoints(self) -> Array:
        """Eyes, nose tip, mouth corners [5, 2]."""
        return self.face.keypoints

    @property
    def face_mask(self) -> NDArray[np.bool_]:
        """Mask of the face [H, W]."""
        return self.face.face_mask

    @property
    def shape(self) -> Array:
        """True shape coefficients [18]."""
        return self.face.shape

    @property
    def expression(self) -> Array:
        """True expression coefficients [8]."""
        return self.face.expression

    @property
    def pose(self) -> Array:
        """True pose [6]."""
        return self.face.pose
