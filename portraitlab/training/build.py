"""Build the models that a configuration describes, each once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from portraitlab.data.features import Frozen
from portraitlab.data.testset import MOST_REFERENCES
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.encoder.sizes import FeatureSizes
from portraitlab.method.model import PortraitModel
from portraitlab.method.objective.base import Term
from portraitlab.support.checks import check_number, check_whole
from portraitlab.support.groups import GROUPS
from portraitlab.support.hub import Repository, describes_repository, find_published, folder_setting
from portraitlab.support.precision import frozen_precision

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The frozen models and the trained model, all on `device`."""

    frozen: Frozen
    model: PortraitModel
    device: torch.device


def build_parts(config: DictConfig, device: torch.device) -> Parts:
    """Build the frozen models, then the model, whose initial weights depend on `seed` alone.

    Raises ValueError for numbers out of range, for choices that do not fit each other, and for
    published weights that are missing on this machine.
    """
    check_numbers(config)
    check_taken(config)
    frozen_precision(config.precision, device)  # for what it raises
    frozen = build_frozen(config, device)
    model = build_model(config, frozen.backbone, frozen.encoder).to(device)
    return Parts(frozen, model, device)


def build_frozen(config: DictConfig, device: torch.device) -> Frozen:
    """Build the frozen models alone. Raises ValueError where one of them cannot be built."""
    check_published(config)
    # The backbone takes longest, so it is last: a missing file of the others fails early.
    encoder = instantiate(config.encoder).to(device)
    recogniser = instantiate(config.recogniser).to(device)
    backbone: Backbone = instantiate(config.backbone).to(device)
    return Frozen(encoder, backbone, recogniser, str(device), config.precision)


def build_beside(node: DictConfig, config: DictConfig, encoder: FaceEncoder) -> Any:
    """Build what `node` describes, with `encoder` wherever the node describes the same encoder.

    A second instance would keep its weights in memory twice.
    """
    return instantiate(node, **_places(node, config.encoder, encoder))


def _places(node: DictConfig, described: DictConfig, encoder: FaceEncoder) -> dict[str, Any]:
    """Map the names, at any depth, at which a node describes the encoder to the encoder."""
    places: dict[str, Any] = {}
    for name, value in node.items():
        if value == described:
            places[str(name)] = encoder
        elif isinstance(value, DictConfig) and (within := _places(value, described, encoder)):
            places[str(name)] = within
    return places


def wanted_fields(objective: DictConfig) -> frozenset[str]:
    """Collect the optional fields of Batch that the terms of an objective read (Term.wants)."""
    terms: list[type[Term]] = [get_class(term._target_) for term in objective.terms.values()]
    return frozenset(name for term in terms for name in term.wants)


def build_model(
    config: DictConfig, backbone: Backbone, encoder: FaceEncoder | FeatureSizes
) -> PortraitModel:
    """Build the model around a backbone; its initial weights depend on `seed` alone.

    encoder: its features are the input of the fusion; their sizes alone suffice. Raises ValueError
    as build_parts does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        fusion = instantiate(
            config.fusion,
            local_dim=encoder.local_dim,
            global_dim=encoder.global_dim,
            dim=backbone.text_dim,
        )
        cond = instantiate(config.cond)
        net = instantiate(
            config.net,
            backbone=backbone,
            control=cond.draws,
            identity=fusion.gives_tokens,
        )
        return PortraitModel(backbone, fusion, cond, net, instantiate(config.transform))


def check_numbers(config: DictConfig) -> None:
    """Check the numbers that users sweep. Raises ValueError for no number or one out of range."""
    check_whole("refs", config.refs, 1, MOST_REFERENCES)
    check_whole("score_refs", config.score_refs, 1, MOST_REFERENCES)
    most = config.most_refs
    if most is not None and max(config.refs, config.score_refs) > most:
        raise ValueError(
            f"refs={config.refs} and score_refs={config.score_refs}, and this paper has {most}; "
            f"give refs={most}, or most_refs=null to depart from it."
        )
    check_whole("seed", config.seed, 0, 2**32 - 1)
    check_whole("batch_size", config.batch_size, 1, 2**16)
    check_whole("augment", config.augment, 0, 99)
    check_whole("budget.steps", config.budget.steps, 0, 2**31)
    for name in ("fresh", "gradient_checkpointing", "target_as_reference", "backbone.pretrained"):
        switch = OmegaConf.select(config, name, default=False)
        if type(switch) is not bool:
            raise ValueError(f"{name}={switch}: true or false is needed")
    if config.ema_decay is not None:
        hint = ", such as 0.9999; ema_decay=null is without an average"
        check_number("ema_decay", config.ema_decay, above=0, below=1, hint=hint)


def check_taken(config: DictConfig) -> None:
    """Check that choices for real photos take effect and fit each other.

    Raises ValueError for a choice that nothing would read, and for landmarks without an encoder
    that gives 3D face coefficients.
    """
    for group, null, by, others in (
        ("clip", "portraitlab.world.pretrained.load_clip", "encoder", "insightface or sface"),
        ("matting", "portraitlab.faces.matting.none.NoMatting", "data", "folder or prepared"),
    ):
        chosen = config[group]
        if chosen._target_ != null and config[by].get(group) != chosen:
            raise ValueError(
                f"{group} is {chosen._target_}, which {by}={config.choices[by]} does not use; "
                f"choose {by}={others}, or leave {group} as it is by default."
            )
    if "face_model" in config.cond and config.encoder.get("face3d", True) is None:
        raise ValueError(
            f"cond={config.choices.cond} needs 3D face coefficients, and "
            f"encoder={config.choices.encoder} with face3d=none gives none; choose "
            "face3d=bfm or face3d=flame, or cond=keypoints or cond=landmarks5."
        )


def warn_of_miniature(config: DictConfig) -> None:
    """Log a warning that names the miniature's models that would see real faces."""
    if config.choices.encoder == "world":
        return
    models = {group.name: OmegaConf.select(config, group.model) for group in GROUPS if group.model}
    if config.choices.edit == "none":
        del models["detector"]
    ours = [name for name, model in models.items() if model and ".world." in model._target_]
    if ours:
        _LOG.warning(
            "encoder=%s reads real faces, but %s the miniature's, trained on rendered faces only: "
            "trainings and scores mean little (docs/encoders.md has other models)",
            config.choices.encoder, " and ".join(ours) + (" is" if len(ours) == 1 else " are"),
        )  # fmt: skip


def check_published(config: DictConfig, *more: str) -> None:
    """Check that the hub's models of all frozen parts are on this machine.

    Raises one MissingPublished for all that are missing. more: further parts of the configuration
    that will be built.
    """
    wanted: list[tuple[Repository, str | None]] = []
    cached: dict[tuple[str, str], Repository] = {}  # by name and revision
    for part in (config[name] for name in ("backbone", "encoder", *more)):
        for published, folder in _repositories(part):
            if folder is not None:
                if (published, folder) not in wanted:  # parts may describe the same encoder
                    wanted.append((published, folder))
                continue
            name = published.repository, published.revision
            cached[name] = cached[name] + published if name in cached else published
    find_published([*wanted, *((published, None) for published in cached.values())])


def _repositories(part: DictConfig) -> Iterator[tuple[Repository, str | None]]:
    """Yield the repositories in a part's configuration, at any depth, each with its folder.

    Models that are not pretrained read none.
    """
    if not part.get("pretrained", True):
        return
    for name, value in part.items():
        if isinstance(value, DictConfig):
            if describes_repository(value):
                folder = part.get(folder_setting(str(name)))
                yield instantiate(value).in_variant(part.get("variant"), folder), folder
            else:
                yield from _repositories(value)
