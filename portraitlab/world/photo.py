"""Photos of the world, and what is known of the people in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portraitlab.world.mesh import Array

FAR = np.float32(-1e9)
"""Depth of the background."""


@dataclass(frozen=True)
class Face:
    """One face of a photo; points are image fractions.

    landmarks [68, 2], landmarks72 [72, 2], keypoints [5, 2], shape [18], expression [8], pose [6]
    (the true coefficients), identity: the seed, face_mask [H, W] bool.
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
    """One person of a photo; points are image fractions.

    face_box [4]: left, top, right and bottom of the face's landmarks, which may leave the frame.
    joints [18, 2]: OpenPose's, in the order of stance.JOINTS. visible [18] bool: which joints
    are in the frame and not hidden.
    region [H, W] bool: the pixels that show the person.
    """

    face: Face
    face_box: Array
    joints: Array
    visible: NDArray[np.bool_]
    region: NDArray[np.bool_]


@dataclass(frozen=True)
class Light:
    """The light of a photo, as it multiplies colours of surfaces, before the photo's style.

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
    """image [H, W, 3] uint8 RGB; person_mask [H, W]: everything that is not background.

    people: in the order in which they were given. flaws: what makes it a poor reference (blurred,
    dim light, mask …). depth [2H, 2W]: how far before its head's centre the nearest surface lies,
    in image fractions, 100 more for each person drawn before; FAR for the background.
    camera_yaw: see PhotoSettings.
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
        """The first (for portraits the only) person's face."""
        return self.people[0].face

    @property
    def landmarks(self) -> Array:
        """68 points [68, 2]."""
        return self.face.landmarks

    @property
    def landmarks72(self) -> Array:
        """72 points [72, 2]."""
        return self.face.landmarks72

    @property
    def keypoints(self) -> Array:
        """Eyes, nose tip, mouth corners [5, 2]."""
        return self.face.keypoints

    @property
    def face_mask(self) -> NDArray[np.bool_]:
        """Where the face is [H, W]."""
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
