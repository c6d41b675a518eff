"""Restore small faces of pictures made elsewhere, with a trained run and photos of the people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from portraitlab.app.experiment import device_of
from portraitlab.data.people import People, match, read_people
from portraitlab.data.photo import UnusablePhoto, read_photo
from portraitlab.faces.encoder.face_encoder import FaceEncoder, photo_tensor
from portraitlab.method.edit.base import PROMPT, Edit, KnownFaces
from portraitlab.method.edit.squares import square_around
from portraitlab.method.model import PortraitModel
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.scoring.pictures import save, to_image
from portraitlab.training.build import build_beside, build_parts
from portraitlab.types import FaceGeometry

_AT_ONCE = 16
"""Pictures in memory."""


class RestorePictures:
    """A task that restores the faces of a folder's pictures and writes all of them, as PNG.

    pictures: folder of pictures of any sizes. faces: folder of photos of one person, or with a
    folder for each person. The people of a picture are matched to its faces by the encoder's
    recogniser, each to one face; another person's photos swap the face. run: a run's folder; None
    is the run that the configuration describes. out: output folder; None is `restored` in the run's
    folder. prompt: describes all pictures. Raises ValueError where a folder is not given.
    """

    def __init__(
        self,
        pictures: str | None,
        faces: str | None,
        run: str | None = None,
        out: str | None = None,
        prompt: str = PROMPT,
    ) -> None:
        self.pictures = _required("pictures", pictures, "pictures whose small faces are restored")
        self.faces = _required("faces", faces, "photos of one person, or a folder for each person")
        self.run = run
        self.out = None if out is None else Path(out).expanduser()
        self.prompt = prompt

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Restore the pictures; return the folder, the number of restored faces, and the others.

        Raises NoRun (a ValueError) without a trained run, and ValueError for edit=none, for a
        folder without pictures, and for a person without a usable photo.
        """
        # Check the settings before models are loaded.
        run = Run.of(plain(config), self.run)
        run.require_weights()
        paths = _pictures(self.pictures)
        folder = self.out or run.folder / "restored"
        if folder.resolve() == self.pictures.resolve():
            raise ValueError(f"task.out={folder} is the folder of the pictures; give another")

        # Load the models, and read the people.
        parts = build_parts(config, device_of(config.trainer))
        model, encoder = parts.model.eval(), parts.frozen.encoder
        model.load_trained_state_dict(run.read_weights())
        edit: Edit = build_beside(config.edit, config, encoder)
        if not edit.changes:
            raise ValueError("task=restore needs an edit: choose edit=diir, or leave edit out")
        matting = instantiate(config.matting)
        people = read_people(
            self.faces, encoder, matting, model.backbone, config.score_refs,
            latents=model.net.latents, pictures="pictures" in model.wants,
        )  # fmt: skip

        # Restore the pictures, a few at once.
        restoration = _Restoration(model, encoder, edit, people, self.prompt)
        restored = 0
        left: list[str] = []
        parts_of = [paths[begin : begin + _AT_ONCE] for begin in range(0, len(paths), _AT_ONCE)]
        for part in track(parts_of, "Restoring pictures"):
            count, reasons = restoration.restore(part, folder)
            restored += count
            left += reasons
        for line in left:
            print(f"left as it is: {line}")
        print(f"{restored} faces restored in {len(paths)} pictures; left as they are: {len(left)}")
        print(f"restored: {folder}")
        return {"folder": str(folder), "restored": restored, "left": left}


@dataclass(frozen=True)
class _Restoration:
    """Models, people and prompt of the restoration."""

    model: PortraitModel
    encoder: FaceEncoder
    edit: Edit
    people: People
    prompt: str

    @torch.no_grad()
    def restore(self, paths: Sequence[Path], folder: Path) -> tuple[int, list[str]]:
        """Restore and write pictures; count the restored faces, and list the others in lines."""
        # Read the pictures, and find whose faces they show.
        names: list[str] = []
        pictures: list[Tensor] = []
        places: list[tuple[int, int, Tensor]] = []  # picture, person and keypoints of each face
        left: list[str] = []
        for path in paths:
            try:
                picture = photo_tensor(read_photo(path).image)[0]
            except UnusablePhoto as error:
                left.append(f"{path.name} {error}")
                continue
            found = self.edit.find(picture)
            if not len(found):
                left.append(f"{path.name}: no face is found")
            people = self._people_of(picture, found)
            for points, person in zip(found.keypoints, people, strict=True):
                if person is None:
                    left.append(f"{path.name}: a face is left when all people are matched")
                else:
                    places.append((len(pictures), person, points))
            names.append(path.name)
            pictures.append(picture)

        # Restore the faces of all pictures together.
        if places:
            numbers, matched, keypoints = zip(*places, strict=True)
            text = self.model.backbone.encode_text([self.prompt]).to("cpu")
            chosen = list(matched)
            faces = KnownFaces(
                picture=torch.tensor(numbers),
                keypoints=torch.stack(keypoints),
                text=text.expand(len(places)),
                references=self.people.features[chosen],
                shape=self.people.shape[chosen],
                pictures=None if self.people.pictures is None else self.people.pictures[chosen],
            )
            edited = self.edit(self.model, self.encoder, pictures, faces)
            pictures = edited.pictures
            left += [
                f"{names[number]}: the face of {self.people.names[person]} {reason}"
                for (number, person, _), reason in zip(places, edited.left, strict=True)
                if reason
            ]
            restored = sum(not reason for reason in edited.left)
        else:
            restored = 0
        for name, picture in zip(names, pictures, strict=True):
            file = name if name.lower().endswith(".png") else f"{name}.png"
            save(to_image(picture), folder / file)
        return restored, left

    def _people_of(self, picture: Tensor, found: FaceGeometry) -> list[int | None]:
        """Match the faces of a picture [3, H, W] to people, by number; None for nobody."""
        if len(found) <= 1 and len(self.people.names) == 1:
            return [0] * len(found)
        if not len(found):
            return []
        height, width = picture.shape[-2:]
        size = self.encoder.image_size
        crops = torch.stack(
            [square_around(points, width, height).cut(picture, size) for points in found.keypoints]
        ).to(self.model.backbone.latent_scale.device)
        shown = torch.ones_like(crops[:, 0], dtype=torch.bool)
        _, embeddings = self.encoder.encode(crops, shown, self.encoder.analyse(crops))
        return match(embeddings.cpu(), self.people.embeddings)


def _required(name: str, folder: str | None, what: str) -> Path:
    """Return a folder that the task needs. Raises ValueError where it is not given."""
    if folder is None:
        raise ValueError(f"task=restore needs {name}=FOLDER: {what}")
    return Path(folder).expanduser()


def _pictures(folder: Path) -> list[Path]:
    """List the files of a folder. Raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"pictures={folder} is not a folder; give a folder of pictures")
    paths = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    if not paths:
        raise ValueError(f"pictures={folder} contains no file; put the pictures in it")
    return paths
