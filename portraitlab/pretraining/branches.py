r"""Ship the branch of a finished run on the larger canvas, as low-rank differences from its UNet.

The matching net (IC-Portrait, Sec. 3.3: 200 steps, then frozen):

python run.py system=ic_portrait canvas=views matching=none budget.steps=200
python -m portraitlab.pretraining.branches matching RUN

The ControlNet of bodies, which reads the prompt:

python run.py canvas=bodies data.framing=bodies fusion=none cond=landmarks_or_skeleton \
    objective=noise refs=1 select=target scale.hifi_net.start=null budget.steps=2000 metrics=none
python -m portraitlab.pretraining.branches canvas_controlnet RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import ControlNetModel

from portraitlab.data.rendering import framing_of
from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.skeleton import draw_skeleton
from portraitlab.method.net.control_branch import pixel_stages
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.pretraining.samples import sample
from portraitlab.pretraining.ship import ship
from portraitlab.runs.run import earlier_run
from portraitlab.types import BodyJoints, Condition
from portraitlab.world.canvas import render_canvas
from portraitlab.world.low_rank import add_differences, low_rank_differences
from portraitlab.world.models.controlnet import grow_branch
from portraitlab.world.models.detector import HeatMapDetector
from portraitlab.world.pretrained import load_canvas_backbone, load_detector
from portraitlab.world.splits import IDENTITIES

RANKS = {"matching": 16, "canvas_controlnet": 24}
"""Ranks of the differences, by the name of the shipped part."""
_BRANCH = "net.controlnet."


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RANKS, help="part of the foundation")
    parser.add_argument("run", help="folder of the run, or its key")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    given = parser.parse_args()
    run = earlier_run(given.run, given.runs)
    settings = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    # Take the branch out of the run's weights, up to the layer that is compared.
    backbone = load_canvas_backbone()
    config: dict[str, Any] = {"stages": None, "layer": None}
    if given.name == "matching":
        config = {"stages": list(pixel_stages(backbone)), "layer": settings["net"]["layer"]}
    model = grow_branch(backbone.unet, **config)
    weights = run.read_weights()
    model.load_state_dict({name: weights[_BRANCH + name] for name in model.state_dict()})
    # Ship it with what the run says of its training.
    record = {
        "command": f"python -m {__package__}.branches {given.name} {run.folder.name}",
        "steps": settings["budget"]["steps"],
        "minutes": round(run.noted()["training_seconds"] / 60, 1),
        "seed": settings["seed"],
        "device": settings["trainer"]["accelerator"],
    }
    rank = RANKS[given.name]
    base = backbone.unet.state_dict()
    # Measure what is shipped, which has the differences of this rank alone.
    model.load_state_dict(
        add_differences(low_rank_differences(model.state_dict(), base, rank), base)
    )
    if given.name == "canvas_controlnet":
        record |= measure(model, backbone, load_detector())
    near = {"base": backbone.unet, "rank": rank}
    ship(given.name, model, config, record, script="branches", **near)


@torch.no_grad()
def measure(
    branch: ControlNetModel, backbone: Backbone, detector: HeatMapDetector, people: int = 64
) -> dict[str, float]:
    """Draw half and full bodies of held-out people by skeleton and caption, and find their faces.

    face_found: share of the pictures with a face. face_px: mean distance in pixels of the middle of
    its five points from the middle of the person's.
    """
    # Render the people.
    seeds = IDENTITIES["foundation_check"][:people]
    shots = [render_canvas([seed], 0, framing_of("bodies", row)) for row, seed in enumerate(seeds)]
    joints = BodyJoints(
        *(
            torch.from_numpy(np.stack([getattr(shot.people[0], name) for shot in shots]))
            for name in ("joints", "visible")
        )
    )
    # Draw them by their skeletons.
    captions = [shot.caption for shot in shots]
    frozen = FrozenControl("bodies", backbone, True, branch)
    drawing = backbone.encode(draw_skeleton(joints, backbone.image_size))
    condition = Condition(backbone.encode_text(captions), None, drawing)
    drawn = sample(
        backbone, captions, seed=0, steps=10,
        steer=lambda latents, levels: frozen(latents, levels, condition),
    )  # fmt: skip
    # Find the faces.
    away: list[float] = []
    for shot, faces in zip(shots, detector.find(drawn), strict=True):
        if len(faces):
            there = torch.from_numpy(shot.people[0].face.keypoints).mean(dim=0)
            distance = (faces.keypoints[0].mean(dim=0) - there).norm() * backbone.image_size
            away.append(float(distance))
    return {
        "face_found": round(len(away) / people, 3),
        "face_px": round(sum(away) / max(len(away), 1), 2),
    }


if __name__ == "__main__":
    main()
