"""Ship the matching net of a finished run (IC-Portrait, Sec. 3.3: 200 steps, then frozen).

python run.py system=ic_portrait canvas=views matching=none budget.steps=200
python -m portraitlab.pretraining.matching RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml
from diffusers import ControlNetModel

from portraitlab.diffusion.encoder_features import features_of
from portraitlab.method.net.control_branch import pixel_stages
from portraitlab.pretraining.ship import ship
from portraitlab.runs.run import earlier_run
from portraitlab.world.pretrained import load_canvas_backbone

_BRANCH = "net.controlnet."


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of the run, or its key")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    given = parser.parse_args()
    run = earlier_run(given.run, given.runs)
    # Take the branch out of the run's weights.
    backbone = load_canvas_backbone()
    config = {"conditioning_embedding_out_channels": list(pixel_stages(backbone))}
    model = ControlNetModel.from_unet(backbone.unet, **config)
    weights = run.read_weights()
    own = {name: each for name, each in weights.items() if name.startswith(_BRANCH)}
    model.load_state_dict({name.removeprefix(_BRANCH): each for name, each in own.items()})
    # Ship what computes the compared layer, with what the run says of its training.
    settings = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    layer = settings["net"]["layer"]
    record = {
        "command": f"python -m {__package__}.matching {run.folder.name}",
        "steps": settings["budget"]["steps"],
        "minutes": round(run.noted()["training_seconds"] / 60, 1),
        "seed": settings["seed"],
        "device": settings["trainer"]["accelerator"],
    }
    ship("matching", features_of(model, layer), config, record, script="matching", layer=layer)


if __name__ == "__main__":
    main()
