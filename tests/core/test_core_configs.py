"""Every choice of these groups builds from its yaml file what it names."""

import re
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from portraitlab.support.sizes import by_scale

OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("fusion", "cond", "net", "objective", "sampler")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]

TINY = {
    "recogniser": {"_target_": "tiny.make_recogniser"},
    "finder": {"_target_": "tiny.make_regressor"},
    "student": {"steps": 4, "model": {"_target_": "tiny.make_student"}},
}
"""In place of the networks of the identity losses, which other tests build."""
LOSSES = {
    "facesnap": {"masked": 1.0, "lightning": 0.5},
    "facesnap_aligned": {"masked": 1.0, "identity": 0.5},
    "facesnap_one_step": {"masked": 1.0, "identity": 0.5},
    "hifi_portrait": {"noise": 1.0, "identity": 0.1},
    "masked": {"masked": 1.0},
    "noise": {"noise": 1.0},
    "pulid": {"noise": 1.0, "lightning": {"identity": 1.0, "semantic": 0.6, "layout": 0.1}},
}
"""The weights of each objective's losses."""


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_builds(group, choice, tiny_backbone) -> None:
    config = OmegaConf.create({"scale": OmegaConf.load(CONF / "scale/smoke.yaml")})
    config.choices = {"scale": "smoke"}
    config.face3d = OmegaConf.load(CONF / "face3d/none.yaml")
    config[group] = OmegaConf.load(CONF / group / f"{choice}.yaml")
    # These fit the world's backbone alone.
    config.scale.hifi_net.start = config.scale.controlnet = None
    given = {
        "fusion": {"local_dim": 10, "global_dim": 12, "dim": 16},
        "net": {
            "backbone": tiny_backbone(),
            "control": choice in ("hifi_net", "instantid", "controlnet", "ffrnet"),
            "identity": True,
        },
    }.get(group, {})
    if group == "objective":
        config = OmegaConf.merge(config, TINY)
    built = instantiate(config[group], **given)
    assert type(built) is get_class(config[group]._target_)
    if group == "objective":
        assert isinstance(built, torch.nn.Module)
        weights = {name: term.part_weights or term.weight for name, term in built.terms.items()}
        assert weights == LOSSES[choice]


@pytest.mark.parametrize("group", ["fusion", "cond", "net"])
def test_every_component_has_a_choice(group) -> None:
    code = {
        path.stem.rstrip("_")
        for path in (CONF.parent / "portraitlab" / "method" / group).glob("*.py")
    }
    shared = {
        "__init",
        "base",
        "drawing",
        "attention",
        "control_branch",
        "frozen_control",
        "low_rank",
        "noise_gate",
        "reference",
        "stock",
    }
    assert code - shared == {choice for name, choice in CHOICES if name == group}


def test_a_component_s_name_is_of_one_component() -> None:
    """Keys name components by class, without the file."""
    found = re.findall(
        r"_target_: (portraitlab\.\S+)", "\n".join(p.read_text() for p in CONF.rglob("*.yaml"))
    )
    assert len(found) > 50
    assert len(set(found)) == len({target.rpartition(".")[2] for target in found})


def test_a_scale_without_a_size_is_named() -> None:
    config = OmegaConf.create(
        {"choices": {"scale": "mini"}, "d": "${by_scale:{smoke: 1, mini: 2}}"}
    )
    assert config.d == 2
    config.choices.scale = "huge"
    with pytest.raises(ValueError, match="scale=huge is not among the sizes smoke, mini"):
        by_scale({"smoke": 1, "mini": 2}, config)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=str)
def test_sizes_are_of_every_scale(path) -> None:
    scales = {each.stem for each in (CONF / "scale").glob("*.yaml")}
    for sizes in re.findall(r"by_scale:\{([^}]*)\}", path.read_text()):
        assert {size.split(":")[0].strip() for size in sizes.split(",")} == scales
