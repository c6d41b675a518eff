"""Time the restoration of four faces by DIIR beside that of one.

python benchmarks/diir.py [cuda]      (a quiet machine; writes benchmarks/results/)

The faces are restored in one batch. On a GPU that one face does not fill, four take little longer
than one; on a CPU the time grows with the arithmetic. Rounds of all ways alternate, and the least
time of each counts.
"""

from __future__ import annotations

import sys
import time

import torch
from hydra.utils import instantiate
from records import machine, write
from training_step import main_job

from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.method.edit.base import KnownFaces
from portraitlab.training.build import build_parts
from portraitlab.types import FaceFeatures, FaceGeometry
from portraitlab.world.render import render_photo

ROUNDS = 4
FACES = 4
BOUND = 1.3
"""Goal: the most that four faces may take, as a multiple of one."""


def main() -> None:
    """Time one face, four at once and four one by one, in one process."""
    device = torch.device("cuda" if "cuda" in sys.argv[1:] else "cpu")
    config = main_job("edit=diir", "edit.below=null", "edit.steps=10")
    parts = build_parts(config, device)
    encoder, backbone = parts.frozen.encoder, parts.frozen.backbone
    edit = instantiate(config.edit)

    # Four pictures of a whole body, each with one reference.
    pictures: list[torch.Tensor] = []
    found: list[FaceGeometry] = []
    number = 0
    while len(pictures) < FACES:
        picture = photo_tensor(render_photo(300_000 + number, 0, 128, "full").image)[0]
        number += 1
        if len(faces := edit.find(picture)):
            pictures.append(picture)
            found.append(faces[:1])
    # Encode the references.
    views = torch.cat([photo_tensor(render_photo(300_000 + n, 1).image) for n in range(FACES)])
    seen = encoder.analyse(views.to(device))
    shown = torch.ones_like(views[:, 0], dtype=torch.bool).to(device)
    local, global_ = (each.cpu() for each in encoder.encode(views.to(device), shown, seen))
    known = KnownFaces(
        picture=torch.arange(FACES),
        keypoints=torch.cat([each.keypoints for each in found]),
        text=backbone.encode_text(["a photo of a person"]).to("cpu").expand(FACES),
        references=FaceFeatures(
            local[:, None], global_[:, None], torch.ones(FACES, 1, dtype=torch.bool)
        ),
        shape=seen.to("cpu"),
    )

    def seconds(faces: KnownFaces, at_once: int) -> float:
        edit.at_once = at_once
        begun = time.perf_counter()
        edit(parts.model, encoder, pictures, faces)  # ends on the CPU, so the device is waited for
        return time.perf_counter() - begun

    # Time all ways in each round, after one round to warm up.
    ways = {
        "one face": (known[:1], 1),
        "four faces at once": (known, FACES),
        "four faces one by one": (known, 1),
    }
    for faces, at_once in ways.values():
        seconds(faces, at_once)
    taken: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, (faces, at_once) in ways.items():
            taken[name] = min(taken.get(name, float("inf")), seconds(faces, at_once))
    # Write the shortest times.
    ratio = taken["four faces at once"] / taken["one face"]
    name = "diir" if device.type == "cpu" else "diir_gpu"
    more = {"device": machine(device), "steps": edit.sampler.steps, "bound": BOUND}
    write(name, taken, four_to_one=round(ratio, 2), **more)
    print(f"four faces take {ratio:.2f} times as long as one; the bound is {BOUND}")


if __name__ == "__main__":
    main()
