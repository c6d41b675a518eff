"""Every choice of these groups builds from its yaml file what it names."""

import re

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from placed import PACKAGE, ROOT, SLOTS, choices

from hydra_plugins.portraitlab_resolvers import by_scale

CONF = ROOT / "conf"
# Selections are built in tests/data/test_configs.py.
CHOICES = [pair for pair in choices() if pair[0] in SLOTS and pair[0] != "select"]


WEIGHTS = {
    "noise": {"noise": 1.0},
    "hifi_portrait": {"noise": 1.0, "identity": 0.1},
    "masked": {"masked": 1.0},
    "facesnap": {"masked": 1.0, "lightning": 0.5},
    "facesnap_one_step": {"masked": 1.0, "identity": 0.5},
    "facesnap_aligned": {"masked": 1.0, "identity": 0.5},
    "fpga": {"noise": 1.0, "clone_faces": 0.2},
    "fpga_identity": {"noise": 1.0, "identity": 0.1, "clone_faces": 0.2},
    "pulid": {"noise": 1.0, "lightning": {"identity": 1.0, "semantic": 0.6, "layout": 0.1}},
}
"""Weights of each objective's losses at full size, as the papers have them."""


def loaded(group: str, choice: str) -> DictConfig:
    """A choice with the choices of the same group that its defaults put below a name."""
    config = OmegaConf.load(CONF / group / f"{choice}.yaml")
    assert isinstance(config, DictConfig)
    for line in config.pop("defaults", []):
        if "@" in line:
            part, _, name = line.partition("@")
            config[name] = loaded(group, part)
    return config


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_builds(group, choice, tiny_backbone) -> None:
    config = OmegaConf.create({"scale": OmegaConf.load(CONF / "scale/smoke.yaml")})
    config.choices = {"scale": "smoke"}
    config.face3d = OmegaConf.load(CONF / "face3d/none.yaml")
    config.detector = OmegaConf.load(CONF / "detector/world.yaml")
    config.image_prompt = {"_target_": "torch.nn.Identity"}  # shipped networks are of other tests
    config.matching = {"net": None}
    config.sampler = {"guidance_drops": "everything"}
    config[group] = loaded(group, choice)
    # These fit the world's backbone alone.
    config.scale.hifi_net.start = config.scale.controlnet = None
    given = {
        "fusion": {"local_dim": 10, "global_dim": 12, "dim": 16},
        "net": {
            "backbone": tiny_backbone(),
            "control": choice
            in (
                *("hifi_net", "instantid", "controlnet", "ffrnet", "mmf", "rep_controlnet"),
                "in_context",
            ),
            "identity": True,
        },
    }.get(group, {})
    if group == "objective":
        # The shipped networks are of other tests; tiny ones do here.
        tiny = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "num_channels": 3}
        models = "portraitlab.world.models"
        for term in config.objective.terms.values():
            if "recogniser" in term:
                term.recogniser = {
                    "_target_": f"{models}.recognisers.ResidualRecogniser",
                    "_convert_": "all",
                    "config": tiny,
                }
                term.regressor = {
                    "_target_": f"{models}.regressor.FaceRegressor",
                    "_convert_": "all",
                    "face_model": {"_target_": "portraitlab.world.pretrained.load_face_model"},
                    "config": tiny,
                }
            if "student" in term:
                unet = dict(tiny_backbone().unet.config)
                term.student = {"_target_": "diffusers.UNet2DConditionModel", **unet}
                term.steps = 4
    built = instantiate(config[group], **given)
    assert type(built) is get_class(config[group]._target_)
    if group == "objective":
        assert isinstance(built, torch.nn.Module)
        weights = {name: term.part_weights or term.weight for name, term in built.terms.items()}
        assert weights == WEIGHTS[choice]


@pytest.mark.parametrize("slot", SLOTS)
def test_every_module_of_a_slot_is_chosen_or_imported(slot) -> None:
    files = [*CONF.rglob("*.yaml"), *PACKAGE.rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    for path in (PACKAGE / "method" / slot).glob("[!_]*.py"):
        module = f"portraitlab.method.{slot}.{path.stem}"
        assert f": {module}." in text or f"from {module} import" in text, module


def test_a_component_s_name_is_of_one_component() -> None:
    """Keys name components by class, without the file."""
    found = re.findall(
        r"_target_: (portraitlab\.[\w.]+)", "\n".join(p.read_text() for p in CONF.rglob("*.yaml"))
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
