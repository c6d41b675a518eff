"""The base class of edits, which change pictures after they were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.model import PortraitModel
from portraitlab.types import FaceFeatures, FaceGeometry, Pictures, TensorRecord, TextFeatures

PROMPT = "a photo of a person"
"""Default prompt of an edited square, which shows no full body as the caption may."""


@dataclass(frozen=True)
class KnownFaces(TensorRecord):
    """F faces of pictures, each with the person that it should show.

    picture [F] long: number of its picture. keypoints [F, 5, 2]: fractions of the picture. text
    [F]: the prompt. references [F, N]: features of the person's photos. shape [F]: geometry of one
    of these photos. pictures [F]: one of these photos as the profile, for a model that wants it;
    their style is not read, since it is the picture around each face.
    """

    picture: Tensor
    keypoints: Tensor
    text: TextFeatures
    references: FaceFeatures
    shape: FaceGeometry
    pictures: Pictures | None = None


@dataclass(frozen=True)
class Edited:
    """Edited pictures and a report about each of the F faces.

    pictures: [3, H, W] in [-1, 1], each of its own size. left: the reason why a face was left as it
    is; empty for an edited face. masks: [1, H, W] in [0, 1], the weight of new pixels; where it is
    0 the picture is unchanged to the bit.
    """

    pictures: list[Tensor]
    left: list[str]
    masks: list[Tensor]


class Edit:
    """A change of drawn pictures.

    changes: False where pictures stay as they are, so that no face is looked for.
    """

    changes: bool = True

    def find(self, picture: Tensor) -> FaceGeometry:
        """Find the faces of a picture [3, H, W] in [-1, 1], best first: [K] on the CPU."""
        raise NotImplementedError

    def __call__(
        self,
        model: PortraitModel,
        encoder: FaceEncoder,
        pictures: Sequence[Tensor],
        faces: KnownFaces,
    ) -> Edited:
        """Edit the faces of pictures [3, H, W] in [-1, 1], which may differ in size.

        encoder: reads the geometry of each face. Pictures and faces are on the CPU.
        """
        raise NotImplementedError
