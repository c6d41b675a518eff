"""FaceNet (Schroff et al., CVPR 2015), the judge of FaceSnap's FaceSim (its Sec. 3.1)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import FACENET, Frame
from portraitlab.faces.recogniser.inception_resnet import InceptionResnetV1
from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import PublishedFile, load_state, read_state_dict, weights_file

_RELEASES = "https://github.com/timesler/facenet-pytorch/releases (tag v2.2.9)"
_PUBLISHED = (
    PublishedFile(
        what="20180402-114759-vggface2.pt",
        fetch=_RELEASES,
        licence="MIT code, trained on VGGFace2, whose terms are unclear for commercial use",
        size="111 MB",
    ),
    PublishedFile(
        what="20180408-102900-casia-webface.pt",
        fetch=_RELEASES,
        licence="MIT code, trained on CASIA-WebFace, which is for non-commercial research",
        size="115 MB",
    ),
)

_SETTING = "(judge.)recogniser.weights"


class FaceNet(nn.Module):
    """A frozen recogniser: crops [B, 3, 160, 160] in [-1, 1], RGB, to unit embeddings [B, 512].

    weights: a state dict as facenet-pytorch publishes it; its head over training identities
    (`logits`) is not loaded. title: its name in records.

    Raises ValueError where the file is missing, damaged or of another model.
    """

    crop_size = 160
    global_dim = 512
    frame: Frame = FACENET

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = weights_file(weights, _SETTING, *_PUBLISHED)
        state = {
            name: value
            for name, value in read_state_dict(path, _SETTING).items()
            if name not in ("logits.weight", "logits.bias")
        }
        self.net = InceptionResnetV1()
        load_state(self.net, state, _SETTING, path, "FaceNet (Inception-ResNet-v1)")
        self.title = f"FaceNet (weights {file_digest(path)[:8]})"

    def train(self, mode: bool = True) -> FaceNet:
        """Stay in evaluation mode: batch statistics are frozen too."""
        return super().train(False)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops as unit vectors [B, 512]."""
        # The published weights were trained on (pixel - 127.5) / 128.
        return functional.normalize(self.net(crops * (127.5 / 128)).float(), dim=-1)
