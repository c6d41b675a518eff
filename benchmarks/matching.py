"""Time matching at SD1.5's sizes, and measure its memory, beside the whole matrix of cosines.

python benchmarks/matching.py [cuda]      (a quiet machine; writes benchmarks/results/)

The sizes are those of four pairs of pictures of 512 px: 64 x 64 cells of the least and the most
channels of SD1.5's UNet. Each way runs in a process of its own, for the peak of its memory beyond
the features; rounds of all ways alternate, and the least time of each counts.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import torch
from records import machine, write
from torch import Tensor

from portraitlab.method.matching import best_match, cell_centres, soft_match

CELLS, CHANNELS = 64, (320, 1280)
BATCH, ROUNDS = 4, 4


def whole_matrix(source: Tensor, target: Tensor) -> Tensor:
    """Match as equations 5 and 6 are printed: all products by all lengths, then the argmax."""
    one, two = source.flatten(2), target.flatten(2)
    lengths = one.norm(dim=1)[:, :, None] * two.norm(dim=1)[:, None, :]
    cells = (one.mT @ two / lengths).argmax(dim=-1)
    return cell_centres(target.shape[-2], target.shape[-1], target.device).flatten(0, 1)[cells]


WAYS = {"whole matrix": whole_matrix, "best_match": best_match, "soft_match": soft_match}


def measured(way: str, channels: int, device: str) -> tuple[float, float]:
    """Return the seconds of one way and its most memory beyond the features, in MiB."""
    generator = torch.Generator().manual_seed(0)
    source, target = (
        torch.randn(BATCH, channels, CELLS, CELLS, generator=generator).to(device) for _ in range(2)
    )
    match = WAYS[way]
    match(source[:1, :, :8, :8], target[:1, :, :8, :8])  # warm up
    begun_with = _memory(device)
    begun = time.perf_counter()
    match(source, target)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, _memory(device) - begun_with


def _memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB, on Linux


def main() -> None:
    """Measure all ways at both widths."""
    device = "cuda" if "cuda" in sys.argv[1:] else "cpu"
    spawn = multiprocessing.get_context("spawn")
    for channels in CHANNELS:
        seconds: dict[str, float] = {}
        memory: dict[str, float] = {}
        for _ in range(ROUNDS):
            for way in WAYS:
                with ProcessPoolExecutor(1, spawn) as process:
                    taken, most = process.submit(measured, way, channels, device).result()
                seconds[way] = min(taken, seconds.get(way, float("inf")))
                memory[way] = most
        ratio = memory["whole matrix"] / memory["best_match"]
        write(
            f"matching_{channels}" + ("_gpu" if device == "cuda" else ""),
            seconds,
            device=machine(torch.device(device)),
            batch=BATCH,
            mebibytes={way: round(most, 1) for way, most in memory.items()},
            whole_to_best=round(ratio, 1),
        )
        print(f"{channels} channels: the whole matrix needs {ratio:.1f} times the memory: {memory}")


if __name__ == "__main__":
    main()
