"""Work of device processes in tests, in a module of its own to keep their imports small."""

from __future__ import annotations

import os
import signal

from portraitlab.data.prepare.bar import Bar
from portraitlab.data.prepare.part import StorePart


def double(part: StorePart, bar: Bar) -> int:
    with bar("Doubling", part.count) as advance:
        advance(1)
    return 2 * part.number


def fall(part: StorePart, bar: Bar) -> int:
    if part.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
    return 0


def refuse(part: StorePart, bar: Bar) -> int:
    raise ValueError(f"{part} is none")
