"""Measure where an identity acts in a picture with two faces: figure 6 of FPGA as a number."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.ops import roi_align

from portraitlab.app.experiment import Bench
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.attention import resolution
from portraitlab.method.transform.clone_faces import CloneFaces
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.scoring.metrics.metric import Estimate
from portraitlab.scoring.pictures import grid, save
from portraitlab.support.files import write_json
from portraitlab.support.precision import computing_in
from portraitlab.support.table import Table
from portraitlab.types import Batch

_SHOWN = 6
_SAMPLED = 8
"""Points along each edge of a box at which a map is read."""


class Activation:
    """A task that doubles held-out pictures side by side and maps where one identity acts.

    FPGA, Sec. 4.3: "a single ID can be simultaneously activated in two given facial areas". The map
    is the norm of the identity output of the branch's first cross-attention, at one noise level,
    on the noised target. Each face's share is the part of the map's sum in its box; `area` is the
    share that a uniform map gives each.

    timestep: the noise level. run: a run's folder, or None for the run that the configuration
    describes.
    """

    def __init__(self, timestep: int, run: str | None = None) -> None:
        self.timestep = timestep
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Write activation.json and activation.png beside the record, and return the former.

        Raises NoRun (a ValueError) without a trained run, and ValueError for groups and for a net
        without a branch that reads identity tokens.
        """
        run = Run.of(plain(config), self.run)
        run.require_weights()
        bench = Bench.of(config, judged=False)
        bench.load(run)
        if any(sample.scene for sample in bench.scoring.samples):
            raise ValueError(
                "task=activation needs pictures of one person; choose data.score_framing=half or "
                "full."
            )

        # Map all pictures.
        parts = bench.parts
        model, device = parts.model.to(parts.device).eval(), parts.device
        generator = torch.Generator().manual_seed(config.seed)
        shares: dict[str, list[Tensor]] = {"left": [], "right": [], "area": []}
        shown: list[list[Tensor]] = []
        for batch, _ in bench.scoring.batches(config.scale.score_batch_size):
            cloned = CloneFaces(every=1).apply(model.with_drawing(batch.to(device)), 0)
            with computing_in(config.precision, device):
                maps = activation_maps(model, cloned, self.timestep, generator)
            assert cloned.clones is not None
            for name, share in face_shares(maps, cloned.clones).items():
                shares[name].append(share.cpu())
            if not shown:
                pictures = model.backbone.decode(batch.latents[:_SHOWN].to(device)).float()
                halves = _as_pictures(maps).chunk(2, dim=-1)
                shown = [list(row) for row in zip(pictures, *halves, strict=False)]

        # Write the record.
        names = [sample.identity for sample in bench.scoring.samples]
        people = torch.tensor([sorted({*names}).index(name) for name in names])
        figures = {
            name: Estimate.over_identities(torch.cat(values), people)
            for name, values in shares.items()
        }
        record = {
            "key": run.key, "seed": config.seed, "timestep": self.timestep,
            **{name: {"value": each.value, "error": each.error} for name, each in figures.items()},
        }  # fmt: skip
        folder = run.record_folder
        write_json(folder / "activation.json", record)
        titles = ["picture", "added on the left", "added on the right"]
        save(grid(titles, shown), folder / "activation.png")
        cells = [f"{each.value:.3f} ±{each.error:.3f}" for each in figures.values()]
        Table(["run", *figures], [[run.folder.name, *cells]]).show()
        print(f"record: {folder / 'activation.json'}")
        return record


@torch.inference_mode()
def activation_maps(
    model: PortraitModel, batch: Batch, timestep: int, generator: torch.Generator
) -> Tensor:
    """Return the norm [B, h', w'] of the identity output of the branch's first cross-attention.

    Raises ValueError for a net without such a branch.
    """
    latents = batch.latents
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timesteps = torch.full((len(latents),), timestep, device=latents.device)
    noisy = model.backbone.add_noise(latents, noise, timesteps)
    attended = model.net(noisy, timesteps, model.condition(batch)).attended
    if attended is None:
        raise ValueError(
            "task=activation needs a net whose branch reads identity tokens; choose net=mmf."
        )
    height, width = latents.shape[-2:]
    shape = resolution(height, width, attended.shape[1])
    return attended.float().norm(dim=-1).unflatten(1, shape)


def face_shares(maps: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Return the share [B] of each map's sum in each of two boxes, and of its area in one.

    maps [B, h', w']; boxes [B, 2, 4]: left, top, right and bottom as fractions.
    """
    height, width = maps.shape[-2:]
    cells = boxes.float() * maps.new_tensor([width, height, width, height])
    found = roi_align(maps[:, None], list(cells), _SAMPLED, aligned=True).mean(dim=(1, 2, 3))
    edges = boxes[..., 2:] - boxes[..., :2]
    area = edges.prod(dim=-1).float()
    left, right = (area * (found.view(-1, 2) / maps.mean(dim=(1, 2))[:, None])).unbind(dim=1)
    return {"left": left, "right": right, "area": area[:, 0]}


def _as_pictures(maps: Tensor) -> Tensor:
    """Scale each map to a grey picture [B, 3, h', w'] in [-1, 1]."""
    return (2 * maps / maps.amax(dim=(1, 2), keepdim=True) - 1)[:, None].expand(-1, 3, -1, -1)
