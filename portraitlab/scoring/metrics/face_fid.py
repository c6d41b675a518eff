"""FID of faces: distance between the sets of generated and real faces (FPGA, Table 4)."""

from __future__ import annotations

from portraitlab.scoring.metrics.fid import Fid
from portraitlab.types import Judged


class FaceFid(Fid):
    """The distance of close-ups of faces; FPGA's Table 4 "is calculated only for the face region".

    Each person of a picture counts once: by the detected face, or by a crop where the face should
    be. The real faces are all that are found in the photos of Judged.population.
    """

    reads = ("face_features",)
    method = "clean-fid's Frechet distance of {features}, close-ups of faces"

    def update(self, judged: Judged) -> None:
        """Add a batch; all batches have the same population."""
        assert judged.generated.face_features is not None
        assert judged.population.face_features is not None
        self.generated.append(judged.generated.face_features)
        self.generated_identity.append(judged.identity)
        self.real = [judged.population.face_features]
