"""Read the logged losses of a training without importing torch or Lightning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_losses(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl: [] without a file; an incomplete last line is skipped."""
    if not path.is_file():
        return []
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]
