"""Draw the fit of a 3D morphable model to photos, also with their shapes swapped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from portraitlab.faces.face3d.fitter import FaceModel
from portraitlab.method.cond.drawing import draw
from portraitlab.method.cond.landmarks import STROKES
from portraitlab.scoring.pictures import grid, save
from portraitlab.support.paths import CONF
from portraitlab.types import FaceCoefficients

_EDGE = 256
"""Edge in pixels of the portraits, both fitted and drawn."""
_DIMMED = 0.5
_LINES = [replace(stroke, width=0.01) for stroke in STROKES]  # finer than those for a net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the photos, the model, its files and the output."""
    parser.add_argument(
        "photos", type=Path, nargs="+", metavar="PHOTO", help="photos with one face each"
    )
    models = sorted({path.stem for path in (CONF / "face3d").glob("*.yaml")} - {"none"})
    parser.add_argument(
        "--face3d", choices=models, default="bfm", help="3D face model (default: bfm)"
    )
    parser.add_argument(
        "--root",
        required=True,
        metavar="FOLDER",
        help="folder of the model's files (docs/face3d.md)",
    )
    parser.add_argument(
        "--packs",
        metavar="FOLDER",
        help="folder of insightface's packs, as encoder.root (default: ~/.insightface)",
    )
    parser.add_argument(
        "--pack", metavar="NAME", help="name of the pack, as encoder.name (default: the first)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("faces.png"), help="output picture (default: faces.png)"
    )


@torch.inference_mode()
def run(given: argparse.Namespace) -> None:
    """Draw the sheet.

    Raises ValueError where a photo cannot be used, a file is missing, or --out does not end in
    .png.
    """
    if given.out.suffix.lower() != ".png":
        raise ValueError(f"--out={given.out}: the sheet is a PNG; give a name that ends in .png.")
    from hydra.utils import get_method
    from omegaconf import OmegaConf

    from portraitlab.data.photo import UnusablePhoto, read_photo
    from portraitlab.data.portrait import cut_portrait
    from portraitlab.data.usable import only_face
    from portraitlab.faces.encoder.face_encoder import photo_tensor
    from portraitlab.faces.encoder.insightface import InsightFaceEncoder
    from portraitlab.faces.face3d.fitter import FaceFitter
    from portraitlab.world.pretrained import load_clip

    # Build the model and the encoder.
    chosen = OmegaConf.load(CONF / "face3d" / f"{given.face3d}.yaml")
    fitter: FaceFitter = get_method(chosen.fitter._target_)(given.root)
    encoder = InsightFaceEncoder(given.packs, load_clip(), given.pack, face3d=fitter)

    # Cut the portraits.
    portraits = []
    for path in given.photos:
        try:
            photo = read_photo(path)
            portrait = cut_portrait(photo, only_face(photo, encoder), 32)
        except UnusablePhoto as error:
            raise ValueError(f"{path} {error}; give another photo.") from error
        portraits.append(photo_tensor(portrait.resized(_EDGE)))

    # Fit the model and draw the sheet.
    images = torch.cat(portraits)
    geometry = encoder.analyse(images)
    for path, score in zip(given.photos, geometry.score, strict=True):
        if not score:
            raise ValueError(f"The face of {path} is not found again in its portrait.")
    assert geometry.coefficients is not None, "the encoder has a fitter"
    names = [path.stem for path in given.photos]
    save(swap_sheet(images, geometry.coefficients, fitter.face_model, names), given.out)
    print(f"sheet: {given.out}")


def swap_sheet(
    portraits: Tensor, coefficients: FaceCoefficients, model: FaceModel, names: Sequence[str]
) -> Image.Image:
    """Draw a row for each of B people: portrait, landmarks, and the shape with all expressions.

    Column j of the last B has the row's shape with person j's expression and pose, over person j's
    dimmed portrait. portraits: [B, 3, K, K] in [-1, 1]. coefficients: [B].
    """
    rows = []
    for row, portrait in enumerate(portraits):
        shape = coefficients.shape[row].expand_as(coefficients.shape)
        swapped = FaceCoefficients(shape, coefficients.expression, coefficients.pose)
        lines = _overlay(portraits, model.landmarks(swapped))
        rows.append([portrait, *lines])
    titles = ["shape of the row ...", *(f"... as {name}" for name in names)]
    return grid(titles, rows, portraits.shape[-1])


def _overlay(portraits: Tensor, landmarks: Tensor) -> Tensor:
    """Draw landmarks [B, 68, 2] as lines over dimmed portraits [B, 3, K, K]."""
    dimmed = _DIMMED * (portraits + 1) - 1
    return torch.maximum(dimmed, draw(landmarks, _LINES, portraits.shape[-1]))
