"""Measure pictures made elsewhere in place of drawn portraits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from portraitlab.app.experiment import Bench
from portraitlab.data.photo import read_photo
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.method.edit.squares import resized
from portraitlab.runs.key import PROTOCOL
from portraitlab.runs.origin import origin
from portraitlab.runs.records import record_table
from portraitlab.scoring.draw import Portraits, portrait_files
from portraitlab.scoring.measure import measure
from portraitlab.support.files import write_json
from portraitlab.support.precision import frozen_precision
from portraitlab.types import Batch


class JudgePictures:
    """A task that measures a folder's pictures as portraits of the held-out people.

    The pictures are those that task=sample draws, after another program has changed them
    (CodeFormer or GFPGAN in FPGA's Table 4), or those of another method for the same people; the
    configuration decides people, judge and metrics. Files have the names that task=sample gives.
    Squares of another size are resized to the backbone's.

    pictures: the folder. Raises ValueError where it is not given.
    """

    def __init__(self, pictures: str | None) -> None:
        if pictures is None:
            raise ValueError(
                "task=judge needs pictures=FOLDER, with a picture for each held-out sample, named "
                "as task=sample names them."
            )
        self.pictures = Path(pictures).expanduser()

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Write judged.json into the folder, print its table, and return it.

        Raises ValueError where a picture is missing, unusable or not square.
        """
        bench = Bench.of(config)
        assert bench.judge is not None
        model, device = bench.parts.model, bench.parts.device
        size = config.scale.score_batch_size
        samples = [sample for people in bench.scoring.pictures() for sample in people]
        batches = [batch for batch, _ in bench.scoring.batches(size)]
        images = self._read(portrait_files(samples), model.backbone.image_size)
        portraits = Portraits(images, Batch.cat(batches), samples)
        figures = measure(
            portraits, bench.photos, bench.real, model.to(device), bench.judge, bench.metrics, size,
            device,
        )  # fmt: skip
        record = {
            "choices": {str(name): choice for name, choice in config.choices.items()},
            "score_refs": config.score_refs, "seed": config.seed, "protocol": PROTOCOL,
            "precision": frozen_precision(config.precision, device), **figures, "origin": origin(),
        }  # fmt: skip
        write_json(self.pictures / "judged.json", record)
        record_table(record).show()
        print(f"record: {self.pictures / 'judged.json'}")
        return record

    def _read(self, names: Sequence[str], size: int) -> Tensor:
        """Read pictures [D, 3, size, size] in [-1, 1]."""
        missing = [name for name in names if not (self.pictures / name).is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(names)} pictures are missing in {self.pictures}, first "
                f"{missing[0]}; draw them by task=sample task.count={len(names)}"
            )
        images = []
        for name in names:
            image = photo_tensor(read_photo(self.pictures / name).image)[0]
            if image.shape[-1] != image.shape[-2]:
                raise ValueError(
                    f"{self.pictures / name} has {image.shape[-1]} x {image.shape[-2]} pixels; "
                    "pictures of drawn portraits are square"
                )
            images.append(resized(image, size).clamp(-1, 1))
        return torch.stack(images)
