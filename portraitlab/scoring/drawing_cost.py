"""Measure what one picture costs: seconds, memory, and calls of the UNet."""

from __future__ import annotations

import time

import torch

from portraitlab.data.testset import ScoringSet
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.base import Sampler
from portraitlab.support.precision import computing_in
from portraitlab.types import DrawingCost

REPEATS = 3


@torch.inference_mode()
def drawing_cost(
    model: PortraitModel,
    sampler: Sampler,
    scoring: ScoringSet,
    device: torch.device,
    precision: str,
) -> DrawingCost:
    """Draw the first sample alone, from cached references to pixels, and measure it.

    seconds are the least of three drawings after one that warms up; gigabytes are the most memory
    that torch had allocated on a GPU, models included, and NaN on a CPU.
    """
    model.eval()
    batch, samples = next(scoring.batches(1))
    given, seeds = batch.to(device), [samples[0].seed]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = []
    with sampler.ready(model.backbone), computing_in(precision, device):
        model = model.for_drawing()
        for _ in range(1 + REPEATS):
            begun = time.perf_counter()
            sampler.sample(model, given, seeds).cpu()  # waits for the device
            taken.append(time.perf_counter() - begun)
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else torch.nan
    return DrawingCost(min(taken[1:]), memory, sampler.unet_calls)
