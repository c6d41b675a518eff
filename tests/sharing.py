"""A tiny training that one process does, or several that share its batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf
from placed import ROOT
from tiny import make_backbone, make_batch, make_recogniser, make_regressor
from torch.utils.data import Dataset

from portraitlab.data.loader import PortraitData
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.base import Net
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.training.averaging import Averaging
from portraitlab.training.checkpoints import Checkpoints
from portraitlab.training.losses import Losses
from portraitlab.training.module import PortraitModule
from portraitlab.types import Batch

STEPS = 4


class Batches(Dataset[Batch]):
    """The batch of each step from a seed of its own, each process its share of it."""

    batch_size, steps, rank, world_size = 6, STEPS, 0, 1

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        return make_batch(seed=step, batch=self.batch_size)[self.rank :: self.world_size]


def ddp() -> DDPStrategy:
    """The strategy of trainer=ddp."""
    strategy: DDPStrategy = instantiate(OmegaConf.load(ROOT / "conf/trainer/ddp.yaml").strategy)
    return strategy


def train(
    folder: Path,
    devices: int = 1,
    nodes: int = 1,
    resume: Path | None = None,
    net: Callable[..., Net] = HiFiNet,
    **settings: Any,
) -> PortraitModule:
    """A training into a folder: losses, checkpoints of every second step, and its weights."""
    backbone = make_backbone()
    torch.manual_seed(1)
    fusion = FaceRefiner(10, 12, backbone.text_dim, learnable_tokens=2, layers=1, heads=2)
    model = PortraitModel(backbone, fusion, KeypointCond(), net(backbone, True, True))
    # Shares of a batch have other masks and other noise levels, and only one has the sample that
    # the identity loss looks at.
    identity = IdentityLoss(
        make_recogniser(), make_regressor(), threshold=0.0, samples=1, timestep_min=400
    )
    module = PortraitModule(
        model,
        Objective({"noise": NoiseLoss(background_weight=0.1), "identity": identity}),
        learning_rate=1e-3,
        steps=STEPS,
    )
    averaging = Averaging(model, 0.9)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if devices * nodes == 1 else ddp(),
        max_steps=STEPS,
        gradient_clip_val=1.0,
        callbacks=[averaging, Losses(folder / "losses.jsonl", 1), Checkpoints(folder, 2)],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        logger=False,
        default_root_dir=folder,
        **settings,
    )
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    trainer.fit(module, PortraitData(Batches()), ckpt_path=resume, weights_only=True)
    # Without which each step would have to send them.
    assert all(torch.equal(before[name], buffer) for name, buffer in module.named_buffers())
    averaging.finish()
    return module


def process(rank: int, folder: Path, devices: int, nodes: int, port: int) -> None:
    """One of several processes, with the variables that torchrun sets."""
    local = rank % devices
    variables = {"RANK": rank, "WORLD_SIZE": devices * nodes, "LOCAL_RANK": local}
    variables |= {"LOCAL_WORLD_SIZE": devices, "GROUP_RANK": rank // devices}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tiny"}
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.set_num_threads(1)
    module = train(folder, devices, nodes)
    torch.save(module.state_dict(), folder / f"weights-{rank}.pt")


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
