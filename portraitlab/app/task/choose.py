"""Draw each held-out person's photos beside the target, to choose references by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig

from portraitlab.app.experiment import device_of
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.source import PhotoSource
from portraitlab.data.testset import target_name
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.method.select.angle import angle_score
from portraitlab.method.select.manual import digest_of, read_choices
from portraitlab.method.select.random import RandomReference
from portraitlab.scoring.pictures import grid, save
from portraitlab.support.files import write_text
from portraitlab.support.printing import setting
from portraitlab.training.build import build_parts


class Choose:
    """A task that draws a sheet for each scored target, and drafts the file of select=manual.

    It trains and scores nothing. folder: output folder of the sheets and the file; existing entries
    of the file are kept. truth: order photos by the renderer's truth: those without a flaw first,
    of these the head pose closest to the target's first; False keeps the stored order.
    """

    def __init__(self, folder: str, truth: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.truth = truth

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Draw the sheets, write the file, and return its path.

        Raises ValueError where truth is set for photos that were not rendered.
        """
        frozen = build_parts(config, device_of(config.trainer)).frozen
        data: PhotoSource = instantiate(config.data)
        photos = data.score_photos(frozen)
        scored = data.scoring_set(photos, config.score_refs, RandomReference()).samples

        # Add the targets that are missing in the file.
        file = self.folder / "manual.yaml"
        ranked = read_choices(file) if file.exists() else {}
        targets = {
            (sample.identity, target_name(photos.store, sample)): sample.target for sample in scored
        }
        for (identity, name), target in sorted(targets.items()):
            names = self._draw(photos, identity, target, name)
            ranked.setdefault(identity, {}).setdefault(name, names)
        write_text(file, yaml.dump(ranked, Dumper=_Plain, default_flow_style=None, width=2**31))
        digest = digest_of(file)
        print(f"sheets: {self.folder}")
        print(f"put the best first in each list of {file}, then score the trained run by it with")
        place = setting("select.file", file)
        print(f"  task=score select=manual {place} select.digest={digest}")
        return {"file": str(file), "digest": digest, "sheets": len(targets)}

    def _draw(self, photos: PhotoSet, identity: str, target: int, name: str) -> list[str]:
        """Draw the sheet of one target; return the names of the person's other photos in order."""
        store = photos.store
        rows = [row for row in photos.rows()[identity] if row != target]
        if self.truth:
            rows = best_first(store, rows, target)
        names = [store.name[row] for row in rows]
        titles = [f"target {name}", *names]
        picture = grid(titles, [list(store.images([target, *rows]))])
        save(picture, self.folder / f"{identity}-{name.replace('/', '-')}.png")
        return names


def best_first(store: Photos, rows: list[int], target: int) -> list[int]:
    """Sort rows by the renderer's truth: photos without a flaw first, then by closest angle.

    Raises ValueError for photos that were not rendered.
    """
    turned = rotation_matrices(store.true_coefficients([*rows, target]).pose[:, :3])
    close = dict(zip(rows, angle_score(turned[:-1], turned[-1]).tolist(), strict=True))
    return sorted(rows, key=lambda row: (store.flawed[row], -close[row]))


class _Plain(yaml.SafeDumper):
    """A YAML dumper that writes names without quotes, since all values are read as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
