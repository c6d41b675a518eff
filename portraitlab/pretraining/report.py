"""Write docs/foundation.md's table from foundation.json.

python -m portraitlab.pretraining.report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from portraitlab.support.paths import DOCS
from portraitlab.tables.document import write_part
from portraitlab.world.pretrained import WEIGHTS

DOCUMENT = DOCS / "foundation.md"
ABOUT_TRAINING = {"command", "device", "minutes", "seed", "steps", "torch"}


def figures(listing: dict[str, Any], weights: Path = WEIGHTS) -> str:
    """Format a Markdown table of each model's size, training and measures."""
    lines = [
        "| model | parameters | fp16 | trained | measured on held-out identities |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for name, described in sorted(listing.items()):
        training = described["training"]
        measured = ", ".join(
            f"{key.replace('_', ' ')} {value:g}"
            for key, value in sorted(training.items())
            if key not in ABOUT_TRAINING
        )
        trained = f"{training['steps']:,} steps, {training['minutes']:g} min, {training['device']}"
        size = (weights / described["file"]).stat().st_size / 2**20
        parameters = f"{described['parameters'] / 1e6:.1f} M"
        lines.append(f"| {name} | {parameters} | {size:.1f} MiB | {trained} | {measured} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    listing = json.loads((WEIGHTS / "foundation.json").read_text())
    write_part(DOCUMENT, "figures", figures(listing))


if __name__ == "__main__":
    main()
