"""The base class of edits that restore small faces: crop, restore at working size, put back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from portraitlab.faces.detector.base import FaceDetector, find_faces
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.edit.base import Edit, Edited, KnownFaces
from portraitlab.method.edit.squares import Square, face_width, square_around
from portraitlab.method.model import PortraitModel
from portraitlab.support.checks import check_choice, check_number, check_whole
from portraitlab.types import Batch, Condition, FaceGeometry

FaceMasks = Callable[[FaceEncoder, FaceGeometry, Tensor], Tensor]
"""A function that marks faces with geometry [F], found by an encoder: bool [F, S, S]; the last
argument, bool [F, S, S], limits what may be marked."""
Shape = Literal["broken", "reference"]


class FaceRestoration(Edit):
    """Restore the faces of pictures that are smaller than a limit (FPGA, Sec. 3.2).

    detector: finds all faces of a picture. masks: marks a face by its landmarks. below: faces of
    this width in pixels or more are left unchanged; None restores faces of any size. margin: edge
    of the cropped square, relative to a portrait of the face. grow and soften: the mask is grown by
    the first and then smoothed by a Gaussian of the second, both as fractions of the square. shape:
    source of the face shape in a control image with 3D landmarks, "broken" or "reference".
    face_threshold: minimum score of a face in the square. at_once: most faces in one batch; bounds
    the memory.

    in_turn: True restores the people of a picture one after another: a square shows the earlier
    results, whose pixels are not changed again.

    A subclass implements `restore`. Raises ValueError for settings out of range.
    """

    in_turn: bool = False

    def __init__(
        self,
        detector: FaceDetector,
        masks: FaceMasks,
        below: float | None = 100,
        margin: float = 1.0,
        grow: float = 0.05,
        soften: float = 0.04,
        shape: Shape = "reference",
        face_threshold: float = 0.5,
        at_once: int = 8,
    ) -> None:
        if below is not None:
            check_number("edit.below", below, above=0, hint=", or null for all faces")
        for name, value, least in (("margin", margin, 1), ("grow", grow, 0), ("soften", soften, 0)):
            check_number(f"edit.{name}", value, least=least, most=4)
        check_choice("edit.shape", shape, ("broken", "reference"))
        self.detector = detector
        self.masks = masks
        self.below = below
        self.margin = margin
        self.grow = grow
        self.soften = soften
        self.shape = shape
        self.face_threshold = face_threshold
        self.at_once = check_whole("edit.at_once", at_once)

    def restore(
        self,
        model: PortraitModel,
        crops: Tensor,
        condition: Condition,
        masks: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Restore crops [F, 3, S, S] in [-1, 1] under soft masks [F, 1, S, S] of their faces.

        beside [F, c, h, w']: latents at the right of the crops', of a net that works side by side.
        """
        raise NotImplementedError

    def find(self, picture: Tensor) -> FaceGeometry:
        """Find the faces of a picture [3, H, W] in [-1, 1], best first: [K] on the CPU."""
        return find_faces(self.detector, picture)

    @torch.no_grad()
    def __call__(
        self,
        model: PortraitModel,
        encoder: FaceEncoder,
        pictures: Sequence[Tensor],
        faces: KnownFaces,
    ) -> Edited:
        """Restore the faces of pictures [3, H, W] in [-1, 1]; see Edit."""
        model = model.for_faces()
        results = [picture.clone() for picture in pictures]
        masks = [torch.zeros_like(picture[:1]) for picture in pictures]
        left = [""] * len(faces)

        # Leave out faces that are large enough.
        squares = [
            self._square(pictures[int(picture)], points)
            for picture, points in zip(faces.picture, faces.keypoints, strict=True)
        ]
        for face, square in enumerate(squares):
            width = face_width(square, self.margin)
            if self.below is not None and width >= self.below:
                left[face] = f"is {width:.0f} px wide, which is not below {self.below:g}"
        small = [face for face, reason in enumerate(left) if not reason]

        # Restore in batches, across pictures.
        sources = results if self.in_turn else pictures
        for part in self._parts(small, faces.picture.tolist()):
            shown = [sources[int(faces.picture[face])] for face in part]
            size = model.backbone.image_size
            crops = torch.stack(
                [
                    squares[face].cut(picture, size)
                    for face, picture in zip(part, shown, strict=True)
                ]
            )
            restored, weights, found = self._restored(model, encoder, crops, faces[part])
            for row, face in enumerate(part):
                if not found[row]:
                    left[face] = "has no landmarks that the encoder finds"
                    continue
                number = int(faces.picture[face])
                square, new = squares[face], (restored[row], weights[row])
                square.put_back(results[number], masks[number], *new, over=not self.in_turn)
        return Edited(results, left, masks)

    def _parts(self, faces: Sequence[int], picture: Sequence[int]) -> list[list[int]]:
        """Divide faces into batches; in_turn: with at most one face of a picture in each.

        picture: number of the picture of every face.
        """
        turns: dict[int, list[int]] = {}
        earlier: Counter[int] = Counter()
        for face in faces:
            turns.setdefault(earlier[picture[face]] if self.in_turn else 0, []).append(face)
            earlier[picture[face]] += 1
        size = self.at_once
        return [
            turn[begin : begin + size]
            for turn in turns.values()
            for begin in range(0, len(turn), size)
        ]

    def _restored(
        self, model: PortraitModel, encoder: FaceEncoder, crops: Tensor, faces: KnownFaces
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """Restore crops [F]: new crops, soft masks [F, 1, S, S], and if a face was found in each.

        Results are on the CPU. All are restored where no face was found, and the caller drops them.
        """
        device = model.backbone.latent_scale.device
        given, known = crops.to(device), faces.to(device)
        geometry = encoder.analyse(given)
        found = (geometry.score >= self.face_threshold).tolist()
        everything = torch.ones(crops.shape[0], *crops.shape[-2:], dtype=torch.bool)
        weights = self._softened(self.masks(encoder, geometry, everything)).to(device)
        with model.backbone.computing():
            batch = self._batch(model, known, geometry, given)
            batch = model.transform.lay_out(model.with_drawing(batch))
            condition = model.condition(batch)
        beside = batch.latents[..., model.backbone.latent_size :]
        beside_or_none = beside if beside.numel() else None
        restored = self.restore(model, given, condition, weights, beside_or_none)
        return restored.float().cpu(), weights.cpu(), found

    def _batch(
        self, model: PortraitModel, faces: KnownFaces, geometry: FaceGeometry, crops: Tensor
    ) -> Batch:
        """Describe the person, and the broken face or the crop for the control image.

        Raises ValueError for a model that reads pictures of the people, where there are none.
        """
        pictures = None
        if "pictures" in model.wants:
            if faces.pictures is None:
                raise ValueError(
                    "This run's net reads a photo of each person, and only features of the people "
                    "are available; restore the pictures by task=restore with faces=FOLDER."
                )
            pictures = replace(faces.pictures, style=crops)
        backbone = model.backbone
        return Batch.to_draw(
            (backbone.latent_channels, backbone.latent_size, backbone.latent_size),
            faces.text,
            faces.references,
            shape_geometry=geometry if self.shape == "broken" else faces.shape,
            target_geometry=geometry,
            pictures=pictures,
        )

    def _square(self, picture: Tensor, keypoints: Tensor) -> Square:
        height, width = picture.shape[-2:]
        return square_around(keypoints, width, height, self.margin)

    def _softened(self, masks: Tensor) -> Tensor:
        """Grow masks bool [F, S, S] and smooth their boundary: [F, 1, S, S] in [0, 1].

        The Gaussian ends at three deviations, so that the weight is 0 beyond.
        """
        soft, size = masks[:, None].float(), masks.shape[-1]
        if reach := round(self.grow * size):
            soft = functional.max_pool2d(soft, 2 * reach + 1, stride=1, padding=reach)
        deviation = self.soften * size
        if reach := round(3 * deviation):
            soft = gaussian_blur(soft, [2 * reach + 1] * 2, [deviation] * 2)
        return soft.clamp(0, 1)
