r"""Ship the branch of a finished run on the larger canvas, as low-rank differences from its UNet.

The matching net (IC-Portrait, Sec. 3.3: 200 steps, then frozen):

python run.py system=ic_portrait canvas=views matching=none budget.steps=200
python -m portraitlab.pretraining.branches matching RUN

The ControlNet of bodies, which reads the prompt:

python run.py canvas=bodies fusion=none cond=landmarks_or_skeleton objective=noise refs=1 \
    select=target scale.hifi_net.start=null budget.steps=2000 metrics=none
python -m portraitlab.pretraining.branches canvas_controlnet RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from portraitlab.method.net.control_branch import pixel_stages
from portraitlab.pretraining.ship import ship
from portraitlab.runs.run import earlier_run
from portraitlab.world.models.controlnet import grow_branch
from portraitlab.world.pretrained import load_canvas_backbone

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
    config = {"stages": None, "layer": None}
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
    near = {"base": backbone.unet, "rank": RANKS[given.name]}
    ship(given.name, model, config, record, script="branches", **near)


if __name__ == "__main__":
    main()
