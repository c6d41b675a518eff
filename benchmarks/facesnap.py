"""Time FaceSnap's training step beside HiFi-Portrait's, and its mixer beside the face refiner.

python benchmarks/facesnap.py      (a quiet machine; writes benchmarks/results/)

Every way's step has the noise loss of its paper and an identity loss on all samples: the one-step
estimate (HiFi-Portrait, eq. 7), or the lightning branch (FaceSnap, eq. 4) with a gradient through
the last one to four of the student's steps. Memory is a process's peak above that of the same
process before its first step.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import torch
from hydra.utils import instantiate
from records import write
from training_step import CPU, main_job, ready_batches

from portraitlab.data.batches import TrainingBatches
from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.mixer import FacialAttributeMixer
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.support.precision import quick_attention
from portraitlab.training.build import build_parts, wanted_fields
from portraitlab.training.module import step_generator
from portraitlab.types import FaceFeatures

ROUNDS, STEPS = 2, 3
BATCH = 4
ALL = ["objective.terms.{}.samples=null", "objective.terms.{}.start_fraction=0.0"]
WAYS = {
    "noise loss alone": ["system=hifi_portrait", "objective=noise", "refs=1"],
    "one-step estimate": [
        "system=hifi_portrait", "refs=1", *(each.format("identity") for each in ALL),
        "objective.terms.identity.timestep_min=0", "objective.terms.identity.timestep_max=1000",
    ],
    **{
        f"lightning branch, gradient through {last} of 4 steps": [
            "system=facesnap", *(each.format("lightning") for each in ALL),
            f"objective.terms.lightning.grad_last={last}",
        ]
        for last in (1, 2, 3, 4)
    },
}  # fmt: skip


def one_way(name: str) -> None:
    """Run the steps of one way in this process, and print seconds a step and peak megabytes."""
    config = main_job("scale.world.identities=16", f"batch_size={BATCH}", *WAYS[name])
    parts = build_parts(config, CPU)
    photos = replace(
        instantiate(config.data).train_photos(parts.frozen), wants=wanted_fields(config.objective)
    )
    batches = TrainingBatches(
        photos, refs=1, batch_size=BATCH,
        steps=STEPS + 1, seed=0, target_as_reference=config.target_as_reference,
    )  # fmt: skip
    ready = ready_batches(config, parts, batches)
    objective = instantiate(config.objective)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for step in range(STEPS + 1):
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16), quick_attention(CPU):
            generator = step_generator(0, step)
            losses = objective(parts.model, ready[step], generator, progress=0.5, step=step)
        with quick_attention(CPU):  # recomputed steps attend as in the forward pass
            losses["loss"].backward()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([min(seconds[1:]), (peak - before) / 1024]))


def fusion_seconds(fusion: Fusion, features: FaceFeatures) -> float:
    """Time one forward and backward pass of a fusion."""
    begun = time.perf_counter()
    tokens = fusion(features)
    assert tokens is not None
    tokens.tokens.square().mean().backward()
    return time.perf_counter() - begun


def time_fusions() -> dict[str, float]:
    """Time mixer and refiner in turns at the sizes of SDXL: d 2048, 257 patch tokens of 1280."""
    torch.manual_seed(0)
    sizes = {"learnable_tokens": 32, "layers": 5, "heads": 16}
    refiner = FaceRefiner(1280, 512, 2048, **sizes)
    mixer = FacialAttributeMixer(1280, 512, 2048, id_tokens=4, **sizes)
    features = FaceFeatures(
        torch.randn(2, 1, 257, 1280), torch.randn(2, 1, 512), torch.ones(2, 1, dtype=torch.bool)
    )
    rounds = [
        {
            "face refiner": fusion_seconds(refiner, features),
            "attribute mixer": fusion_seconds(mixer, features),
        }
        for _ in range(1 + ROUNDS)
    ][1:]
    return {name: min(times[name] for times in rounds) for name in rounds[0]}


def main() -> None:
    """Time all ways in turns, each in a process of its own, then the two fusions."""
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, measured in found.items():
            command = [sys.executable, __file__, name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {name: min(each[0] for each in measured) for name, measured in found.items()}
    memory = {name: min(each[1] for each in measured) for name, measured in found.items()}
    write("facesnap_step", seconds, batch_size=BATCH, megabytes=memory)
    write("facesnap_fusions", time_fusions())


if __name__ == "__main__":
    one_way(sys.argv[1]) if len(sys.argv) > 1 else main()
