"""Count a configuration's parameters, multiply-adds and memory, without its weights."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from portraitlab.deploy.cost import PartCost, Sizes, part_costs, training_memory
from portraitlab.faces.encoder.sizes import FeatureSizes, feature_sizes
from portraitlab.method.model import PortraitModel
from portraitlab.support.checks import check_whole
from portraitlab.support.table import Table
from portraitlab.training.build import build_model, check_numbers
from portraitlab.training.fitting import training_precision

_PUBLISHED = " (published models as published, whichever files are given)"


class Cost:
    """A task that counts the model of a configuration and prints the cost of each part.

    batch_size: samples on one device, in the training step whose memory is counted.

    Raises ValueError for a batch_size that is not a whole number or below 1.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = check_whole("task.batch_size", batch_size)

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Print the cost, and return it in parameters, multiply-adds and bytes."""
        # Count the parts and the memory of a training step.
        check_numbers(config)
        features = feature_sizes(config.encoder)
        lengths = features.local_length, features.local_dim, features.global_dim
        sizes = Sizes(*lengths, references=config.score_refs)
        model = _model(config, features)
        precision = training_precision(config, model.backbone)
        parts = part_costs(model, sizes)
        memory = training_memory(
            _model(config, features),
            sizes,
            self.batch_size,
            precision,
            config.gradient_checkpointing,
            averaged=config.ema_decay is not None,
            decoded=_decoded(config, self.batch_size),
        )

        # Print them.
        _parts_table(parts).show()
        print(
            f"features of a reference, by encoder={config.choices.encoder}: {features.local_length}"
            f" local ones of {features.local_dim}, a global one of {features.global_dim}"
            f"{_PUBLISHED if features.published else ''}"
        )
        print(
            f"training, {self.batch_size} on a device, {precision}: "
            f"{_gigabytes(memory.total)} = weights {_gigabytes(memory.weights)}"
            f" + gradients {_gigabytes(memory.gradients)} + Adam {_gigabytes(memory.optimiser)}"
            f"{_more('average', memory.average)} + activations {_gigabytes(memory.activations)}"
            f"{_more('one recomputed block', memory.recomputed)}"
        )
        trained = memory.gradients // 4
        if trained != sum(part.trained for part in parts.values()):
            print(
                f"trained: {trained / 1e6:,.1f} M; the part that is not in the table is merged "
                "into the UNet for drawing"
            )
        for term in config.objective.terms.values():
            if "student" in term:
                print(
                    "the lightning branch also needs its student's UNet "
                    f"({parts['UNet'].frozen / 1e6:,.1f} M), {term.steps} calls of net + UNet for "
                    "each of its samples, and the activations of one call"
                )
        costs = {name: asdict(part) for name, part in parts.items()}
        return {"parts": costs, "memory": asdict(memory) | {"total": memory.total}}


def _decoded(config: DictConfig, batch_size: int) -> int:
    """Return the most samples of a step whose pictures a term decodes."""
    compared = [term for term in config.objective.terms.values() if "recogniser" in term]
    samples = [batch_size if term.samples is None else int(term.samples) for term in compared]
    return min(batch_size, max(samples, default=0))


def _model(config: DictConfig, features: FeatureSizes) -> PortraitModel:
    """Build the model, a published backbone without its weights, with the world's face model."""
    published = "pretrained" in config.backbone
    config = copy.deepcopy(config)
    # Counting supplies the drawings itself, so that no face model of real faces is needed.
    config.face3d.model = {"_target_": "portraitlab.world.pretrained.load_face_model"}
    without = {"pretrained": False, "device": "meta"} if published else {}
    if "pretrained" in config.image_prompt:
        OmegaConf.update(config, "image_prompt", without, force_add=True)
    with torch.device("meta" if published else "cpu"):
        return build_model(config, instantiate(config.backbone, **without), features)


def _parts_table(parts: dict[str, PartCost]) -> Table:
    rows = [_row(name, part) for name, part in parts.items()]
    step = [parts["net"], parts["UNet"]]
    count = sum(part.trained + part.frozen for part in parts.values())
    whole = f"all parameters: {count / 1e6:,.1f} M"
    rows.append([whole, *_parameters(list(parts.values())), "", ""])
    rows.append(["one step of drawing: net + UNet", "", "", *_products(step)])
    if reading := [part for name, part in parts.items() if name.startswith("net, reading")]:
        rows.append(["the same, with what the net reads once", "", "", *_products(step + reading)])
    columns = ["part", "trained M", "frozen M", "layers T", "attention T"]
    notes = [
        "M: million parameters. T: 10^12 multiply-adds for one sample, of convolutions and linear "
        "layers. Attention's products are counted separately, since many counters omit them. The "
        "fusion runs once a portrait, net and UNet once a step, the autoencoder once to decode."
    ]
    return Table(columns, rows, notes)


def _row(name: str, part: PartCost) -> list[str]:
    return [name, *_parameters([part]), *_products([part])]


def _parameters(parts: list[PartCost]) -> list[str]:
    return [
        f"{sum(part.trained for part in parts) / 1e6:,.1f}",
        f"{sum(part.frozen for part in parts) / 1e6:,.1f}",
    ]


def _products(parts: list[PartCost]) -> list[str]:
    return [
        f"{sum(part.layers for part in parts) / 1e12:.4g}",
        f"{sum(part.attention for part in parts) / 1e12:.4g}",
    ]


def _more(name: str, count: int) -> str:
    return f" + {name} {_gigabytes(count)}" if count else ""


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
