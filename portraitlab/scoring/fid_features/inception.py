"""The Inception-v3 that FID is defined by (Heusel et al., NeurIPS 2017), used as in clean-fid.

clean-fid runs its copy as TorchScript, which is a program in a file. This module reads the same
weights without running a file, into the net that clean-fid has for them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from portraitlab.support.hashes import file_digest
from portraitlab.support.precision import without_autocast
from portraitlab.support.weights import PublishedFile, load_state, read_state_dict, weights_file

_SETTING = "judge.fid_features.weights"
_PUBLISHED = PublishedFile(
    what="pt_inception-2015-12-05-6726825d.pth",
    fetch="https://github.com/mseitzer/pytorch-fid/releases (tag fid_weights)",
    licence="Apache-2.0",
    size="96 MB",
)


class Inception(nn.Module):
    """An encoder of pictures to the 2,048 features before the last layer; frozen.

    weights: the state dict as pytorch-fid publishes it. If the file's name ends in the first digits
    of its SHA-256, as the published one's does, they are verified. title: name in records.

    Raises ValueError if the file is missing, damaged or of another model.
    """

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = weights_file(weights, _SETTING, _PUBLISHED)
        digest = file_digest(path)
        _check_named(path, digest)
        seen = f"Inception-v3's features, weights {digest[:8]}"
        self.title = f"{seen}; whole image, clean-fid's resize"
        self.net = _architecture()
        load_state(self.net, read_state_dict(path, _SETTING), _SETTING, path, "Inception-v3 of FID")
        self.net.fc = nn.Identity()

    def train(self, mode: bool = True) -> Inception:
        """Stay in evaluation mode, because batch statistics are frozen too."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, 2048] of images [B, 3, H, W] in [-1, 1], RGB.

        Each image is rounded to 8 bits, and resized to 299 x 299 by clean-fid.
        """
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
        sized = np.stack([resize(one) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()])
        given = torch.from_numpy(sized).permute(0, 3, 1, 2).to(images.device)
        with without_autocast(images.device):  # as published figures were computed
            features: Tensor = self.net((given - 128) / 128)
        return features


def _architecture() -> Any:
    """Build torchvision's Inception-v3 with clean-fid's blocks where FID's net differs."""
    from cleanfid import inception_pytorch as blocks
    from torchvision.models import inception_v3

    with torch.device("meta"):
        net = inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
        net.Mixed_5b = blocks.FIDInceptionA(192, pool_features=32)
        net.Mixed_5c = blocks.FIDInceptionA(256, pool_features=64)
        net.Mixed_5d = blocks.FIDInceptionA(288, pool_features=64)
        net.Mixed_6b = blocks.FIDInceptionC(768, channels_7x7=128)
        net.Mixed_6c = blocks.FIDInceptionC(768, channels_7x7=160)
        net.Mixed_6d = blocks.FIDInceptionC(768, channels_7x7=160)
        net.Mixed_6e = blocks.FIDInceptionC(768, channels_7x7=192)
        net.Mixed_7b = blocks.FIDInceptionE_1(1280)
        net.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return net


def _check_named(path: Path, digest: str) -> None:
    named = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    if named and not digest.startswith(named[1]):
        raise ValueError(
            f"{_SETTING}={path}: its SHA-256 begins with {digest[:8]}, not with {named[1]} as its "
            "name says: the download was not completed, or the file was changed. Fetch it again."
        )
