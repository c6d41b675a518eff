"""The encoder's own search for faces, for real photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.types import FaceGeometry


class EncoderFaces:
    """A detector of all faces by the `find` of an encoder.

    encoder=world finds one face at most: its regressor is trained on portraits.
    """

    def __init__(self, encoder: FaceEncoder) -> None:
        self.encoder = encoder

    def find(self, photo: NDArray[np.uint8]) -> FaceGeometry:
        """Find all faces of a photo uint8 [H, W, 3] RGB, best first."""
        return self.encoder.find(photo)
