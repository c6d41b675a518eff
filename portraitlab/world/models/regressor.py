"""The world's DECA and RetinaFace: shape, expression, pose and a face score from one photo."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from portraitlab.faces.face3d.linear import LinearFaceModel
from portraitlab.types import FaceCoefficients, FaceGeometry

CONFIG = {
    "embedding_size": 32, "hidden_sizes": [48, 96, 192], "depths": [1, 2, 2], "layer_type": "basic",
    "num_channels": 3,
}  # fmt: skip
POSES = {
    "portrait": ((0.0, 0.0, 0.0, 0.425, 0.5, 0.44), (0.3, 0.13, 0.12, 0.02, 0.03, 0.03)),
    "varied": ((0.0, 0.0, 0.0, 0.4, 0.5, 0.43), (0.3, 0.13, 0.12, 0.06, 0.06, 0.05)),
}
"""Approximate mean and standard deviation of pose coefficients, by framing of training photos."""
FRAMINGS = {"regressor": "portrait", "judge_regressor": "varied"}
"""Widest framing that each of the shipped regressors is trained on."""


class FaceRegressor(nn.Module):
    """A regressor from images [B, 3, 64, 64] in [-1, 1] to FaceGeometry; differentiable.

    The face score is a probability; a face is accepted from 0.5. framing: framing of the
    training photos, a key of POSES. title: name in records.
    """

    title = "the regressor"
    pose_scale: Tensor
    pose_mean: Tensor

    def __init__(
        self,
        face_model: LinearFaceModel,
        config: dict = CONFIG,
        image_size: int = 64,
        framing: str = "portrait",
    ) -> None:
        super().__init__()
        self.face_model = face_model
        self.image_size = image_size
        self.sizes = [face_model.shape_size, face_model.expression_size, 6, 1]
        self.trunk = ResNetModel(ResNetConfig(**config))
        channels = 16 * config["hidden_sizes"][-1]
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, 256), nn.GELU(), nn.Linear(256, sum(self.sizes))
        )
        mean, scale = POSES[framing]
        self.register_buffer("pose_scale", torch.tensor(scale), persistent=False)
        self.register_buffer("pose_mean", torch.tensor(mean), persistent=False)

    def estimate(self, images: Tensor) -> tuple[FaceCoefficients, Tensor]:
        """Predict coefficients, and the logit of the face score [B]."""
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            # In single precision, which alone has anti-aliasing on a CPU.
            images = functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
        fine = functional.interpolate(images, scale_factor=1.5, mode="bilinear")
        features = functional.adaptive_avg_pool2d(self.trunk(fine).last_hidden_state, 4)
        shape, expression, pose, score = self.head(features).float().split(self.sizes, 1)
        pose = self.pose_mean + self.pose_scale * pose
        return FaceCoefficients(shape, expression, pose), score[:, 0]

    def forward(self, images: Tensor) -> FaceGeometry:
        """Predict keypoints, face score and coefficients of the one face of each image."""
        coefficients, logit = self.estimate(images)
        keypoints = self.face_model.keypoints(coefficients)
        return FaceGeometry(keypoints, torch.sigmoid(logit), coefficients)
