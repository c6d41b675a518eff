"""ArcFace in torch, for a differentiable identity loss (Deng et al., CVPR 2019)."""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import ARCFACE, Frame
from portraitlab.faces.recogniser.iresnet import IResNet
from portraitlab.faces.recogniser.mobilefacenet import MobileFaceNet
from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import PublishedFile, load_state, read_state_dict, weights_file

_PUBLISHED = (
    PublishedFile(
        what="MobileFaceNet",
        fetch="https://github.com/foamliu/MobileFaceNet (weights/mobilefacenet.pt)",
        licence="Apache-2.0, trained on MS-Celeb-1M",
        size="4 MB",
    ),
    PublishedFile(
        what="iresnet18, 34, 50 or 100, backbone.pth",
        fetch="https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch",
        licence="non-commercial research only",
        size="96 to 261 MB",
    ),
)
_SETTING = "(judge.)recogniser.weights"
_UNIT = re.compile(r"layer([1-4])\.(\d+)\.")


class ArcFace(nn.Module):
    """A frozen recogniser: crops [B, 3, 112, 112] in [-1, 1], RGB, to unit embeddings.

    It is differentiable in the crops. weights: a state dict (.pt, .pth or .safetensors) of
    insightface's arcface_torch iresnets or of foamliu/MobileFaceNet; the architecture, its depth
    and the width of its embedding are inferred from names and shapes. title: its name in records.

    Raises ValueError where the file is missing, damaged or of another model.
    """

    crop_size = 112
    frame: Frame = ARCFACE

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = weights_file(weights, _SETTING, *_PUBLISHED)
        state = read_state_dict(path, _SETTING)
        if "gdconv.depthwise.weight" in state and "conv3.weight" in state:
            self.global_dim = len(state["conv3.weight"])
            self.net: nn.Module = MobileFaceNet(self.global_dim)
        elif {"fc.weight", "layer4.0.conv1.weight"} <= state.keys():
            units = [match.groups() for match in map(_UNIT.match, state) if match]
            depths = [len({unit for layer, unit in units if layer == str(n)}) for n in range(1, 5)]
            self.global_dim = len(state["fc.weight"])
            self.net = IResNet(depths, self.global_dim)
        else:
            raise ValueError(
                f"{_SETTING}={path} is of an unknown architecture: it has {len(state)} tensors, "
                f"first {', '.join(sorted(state)[:3])}. Give a plain state dict of insightface's "
                "iresnets (arcface_torch) or of foamliu/MobileFaceNet."
            )
        kind = type(self.net).__name__
        load_state(self.net, state, _SETTING, path, kind)
        self.title = f"{kind} (weights {file_digest(path)[:8]})"

    def train(self, mode: bool = True) -> ArcFace:
        """Stay in evaluation mode: batch statistics are frozen too."""
        return super().train(False)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops as unit vectors [B, global_dim]."""
        return functional.normalize(self.net(crops).float(), dim=-1)
