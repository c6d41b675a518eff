"""What a training logged, read without the libraries that trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_losses(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, [] where there is none; a last one cut short is left out."""
    if not path.is_file():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]
