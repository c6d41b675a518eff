"""Train the whole foundation, one model after the other, each in its own process.

    python -m portraitlab.pretraining.all --share 1.0

A model whose saved training has reached its minutes is only measured and shipped again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

STAGES: tuple[tuple[str, float], ...] = (
    ("recognisers --which recogniser", 33),
    ("recognisers --which judge", 35),
    ("recognisers --which second_judge", 35),
    ("autoencoder", 67),
    ("decoder", 40),
    ("clip --which clip", 37),
    ("clip --which judge_clip", 30),
    ("regressor --which regressor", 52),
    ("regressor --which judge_regressor", 30),
    ("light", 1),
    ("detector", 3),
    ("dino", 60),
    ("quality", 8),
    ("restorer", 12),
    ("text_to_image", 332),
    ("starts --which branch", 220),
    ("starts --which attention", 220),
    ("student", 40),
    ("canvas", 92),
)
"""Modules and their minutes, in the order of their dependencies."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the minutes to train")
    given, rest = parser.parse_known_args()
    for stage, minutes in STAGES:
        module, *arguments = stage.split()
        command = [sys.executable, "-m", f"portraitlab.pretraining.{module}", *arguments]
        command += ["--minutes", f"{minutes * given.share:g}", *rest]
        print("$", *command[1:], flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
