"""The configuration tree: it composes whole, and it is the map of the package."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from placed import ROOT, SLOTS, choices, module_of
from publishing import write_sd15

from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.support.groups import GROUPS, IDLE
from portraitlab.support.hub import MissingPublished
from portraitlab.training.build import (
    build_beside,
    check_numbers,
    check_published,
    check_taken,
    warn_of_miniature,
)

# What a choice needs beside its name.
NEEDS = {
    ("data", "folder"): ["data.root=photos"],
    ("data", "prepared"): ["data.root=out"],
    ("face3d", "bfm"): ["face3d.root=files"],
    ("face3d", "flame"): ["face3d.root=files"],
    ("matching", "exported"): ["matching.net.root=out"],
}
# Groups whose choices are components of this package, not presets, numbers or models of others.
COMPONENTS = {*SLOTS, "data", "encoder", "face3d", "fid_features", "matting", "metrics", "task"}


def test_the_list_of_groups_is_that_of_the_defaults() -> None:
    defaults = OmegaConf.load(ROOT / "conf" / "config.yaml").defaults
    listed = [name for entry in defaults if entry != "_self_" for name in entry]
    names = [group.name for group in GROUPS]
    assert sorted(names) == sorted(name for name in listed if not name.startswith("override"))
    assert {name.partition("@")[0] for name in names} == {group for group, _ in choices()}


@pytest.mark.parametrize(("group", "choice"), choices())
def test_every_choice_composes_and_resolves(
    composed: Callable[..., DictConfig], group: str, choice: str
) -> None:
    config = composed(f"{group}={choice}", *NEEDS.get((group, choice), []))
    settings = plain(config)
    if group in settings["choices"]:
        assert settings["choices"][group] == choice
    for target in targets(settings):
        # Raises where a target names nothing.
        get_class(target) if target.rsplit(".", 1)[1][0].isupper() else get_method(target)


# Settings that train nothing: of scoring, places, logging and speed. The scale, the budget, the
# names of the choices and some parts of others (clip, face3d, finder, matting) act through what
# refers to them.
UNTRAINED = re.compile(
    rf"({'|'.join({group.name for group in GROUPS if not group.trains} - {'trainer'})})\b|"
    rf"({'|'.join(IDLE)}|choices|pictures|faces|judge)\b|"
    r"(score_refs|most_refs|gradient_checkpointing|edit_by)\b|"
    r"data\.(cache|workers|score_identities|score_photos|split|targets|targets_of)$|"
    r"data\.(judges|noise_seeds|real_photos|score_framing)$|"
    r"net\.(alpha|beta)$|cond\.drawn$|"
    r"trainer\.(?!(max_steps|gradient_clip_val|precision)$)|"
    r"(.+\.)?providers$"
)


def each_changed(settings: dict[str, Any], above: str = "") -> Iterator[str]:
    """The path of each setting in turn, while it holds another value."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from each_changed(value, f"{above}{name}.")
        else:
            settings[name] = "something else"
            yield f"{above}{name}"
            settings[name] = value


@pytest.mark.parametrize(("group", "choice"), [pair for pair in choices() if pair[0] != "metrics"])
def test_each_setting_is_known_to_train_or_not_to(
    composed: Callable[..., DictConfig], group: str, choice: str
) -> None:
    settings = plain(composed(f"{group}={choice}", *NEEDS.get((group, choice), [])))
    key = Run.of(settings).key
    for path in each_changed(settings):
        assert (Run.of(settings).key != key) is not bool(UNTRAINED.match(path)), path
    assert Run.of(settings).key == key


@pytest.mark.parametrize(("group", "choice"), [pair for pair in choices() if pair[0] in COMPONENTS])
def test_a_choice_and_its_module_have_one_name(group: str, choice: str) -> None:
    config = OmegaConf.load(ROOT / "conf" / group / f"{choice}.yaml")
    assert isinstance(config, DictConfig)
    raw = OmegaConf.to_container(config)
    if group == "metrics":
        # A metric sits under its own name, so that several are chosen at once; all, people and
        # none are sets of them.
        if choice in ("all", "people", "none"):
            return
        raw = raw[choice]
    module = f"{choice}_" if keyword.iskeyword(choice) else choice
    if group == "face3d":
        if choice == "none":  # the world's own head
            return
        raw = raw["model"]  # what fits it to photos is a module of its own
    if (group, choice) == ("fid_features", "clip"):  # the judge has it
        return
    if group == "objective":
        module = "weighted"  # every objective is a weighted sum; its terms are the components
    assert raw["_target_"].rsplit(".", 1)[0] == module_of(group, module)


def test_only_shared_classes_are_outside_their_group() -> None:
    for group, choice in choices():
        raw = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / group / f"{choice}.yaml"))
        for target in targets(raw):
            if target.startswith("portraitlab."):
                places = set(target.split(".")[1:])
                assert places & {
                    group,
                    "world",
                    "loggers",
                    "scoring",
                    "hub",
                    "diffusion",
                    "face_masks",
                    "in_context",  # reads its own matching nets
                    "descriptors",  # features that task=match compares
                }, (
                    group,
                    choice,
                    target,
                )


def test_a_number_of_one_fusion_does_not_reach_another(
    composed: Callable[..., DictConfig],
) -> None:
    assert set(composed("fusion=concat").fusion) == {"_target_"}


def test_metrics_are_chosen_one_by_one(composed: Callable[..., DictConfig]) -> None:
    assert list(composed("metrics=[sim_f,fid]").metrics) == ["sim_f", "fid"]
    assert list(composed("metrics=none").metrics) == []
    assert len(composed().metrics) == 9


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clip=vit_l14", r"clip is .*ClipVision, which encoder=world does not use; .*insightface"),
        ("matting=onnx", r"matting is .*OnnxMatting, which data=world does not use; .*data=folder"),
    ],
)
def test_a_choice_for_real_photos_is_not_ignored_in_the_world(
    composed: Callable[..., DictConfig], override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_taken(composed(override))
    check_taken(composed())
    real = ("clip=vit_l14", "encoder=sface", "data=folder", "data.root=photos")
    check_taken(composed(*real, "cond=keypoints"))
    with pytest.raises(ValueError, match=r"cond=landmarks needs 3D .* encoder=sface with face3d=n"):
        check_taken(composed(*real))
    check_taken(composed(*real, "face3d=bfm", "face3d.root=x"))
    check_taken(composed("data=prepared", "data.root=out", "matting=onnx"))


def test_a_store_without_matting_keeps_its_runs(composed: Callable[..., DictConfig]) -> None:
    config = plain(composed("data=prepared", "data.root=out"))
    named = Run.of(config)
    del config["data"]["matting"], config["data"]["minimum_side"]
    assert Run.of(config) == named
    of_a_folder = plain(composed("data=folder", "data.root=out"))
    named = Run.of(of_a_folder)
    del of_a_folder["data"]["matting"]
    assert Run.of(of_a_folder).key != named.key


def test_a_transform_of_nothing_keeps_the_key_and_another_changes_it(
    composed: Callable[..., DictConfig],
) -> None:
    config = plain(composed())
    named = Run.of(config)
    assert Run.of(plain(composed("transform=none"))) == named
    del config["transform"]  # as in runs from before the group
    assert Run.of(config) == named
    cloned = Run.of(plain(composed("transform=clone_faces"))).key
    assert cloned != named.key
    assert Run.of(plain(composed("transform=clone_faces", "transform.every=5"))).key != cloned


def test_models_that_never_saw_a_real_face_are_named(
    composed: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_miniature(composed("recogniser=arcface"))
    assert not caplog.messages
    real = ("encoder=sface", "recogniser=arcface", "finder=encoder", "clip_pair=vit_l14")
    warn_of_miniature(composed(*real))
    warn_of_miniature(composed(*real[:3], "recogniser@judge.recogniser=facenet"))
    warn_of_miniature(composed(*real, "recogniser@judge.recogniser=facenet"))
    assert [message.split("(")[0] for message in caplog.messages] == [
        f"encoder=sface reads real faces, but {name} is the miniature's, trained on rendered faces "
        "only: trainings and scores mean little "
        for name in ("recogniser@judge.recogniser", "clip_pair")
    ]


@pytest.mark.parametrize("name", ["fresh", "gradient_checkpointing", "backbone.pretrained"])
def test_a_switch_must_be_true_or_false(composed: Callable[..., DictConfig], name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}=flase: true or false is needed"):
        check_numbers(composed("backbone=sdxl", f"{name}=flase"))
    check_numbers(composed("backbone=sdxl", f"{name}=true"))


def test_an_encoder_that_a_part_names_again_is_not_built_again(
    composed: Callable[..., DictConfig],
) -> None:
    config = composed("finder=encoder")
    encoder = instantiate(config.encoder)
    objective = build_beside(config.objective, config, encoder)
    assert objective.terms["identity"].regressor.encoder is encoder
    alone = build_beside(composed().objective, composed(), encoder)  # names none
    assert not any(part is encoder for part in alone.modules())


def test_one_error_lists_all_missing_models_of_the_hub(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = composed(
        "backbone=sdxl", "encoder=sface", "clip=vit_h14", f"backbone.folder={tmp_path}"
    )
    with pytest.raises(MissingPublished) as caught:
        check_published(config)
    message = str(caught.value)
    assert f"missing in backbone.folder={tmp_path}: all of it" in message
    assert message.count("hf download") == 3
    for name in ("stable-diffusion-xl-base-1.0", "sdxl-vae-fp16-fix", "CLIP-ViT-H-14"):
        assert name in message
    config.backbone.pretrained = False
    with pytest.raises(MissingPublished) as caught:
        check_published(config)
    assert str(caught.value).count("hf download") == 1
    config = composed("encoder=sface", "clip=vit_l14", "clip_pair=vit_l14")
    with pytest.raises(MissingPublished) as caught:
        check_published(config, "judge")
    message = str(caught.value)
    assert f"fetch:  {instantiate(config.judge.clip.weights).command}\n" in message
    assert message.count("hf download") == 1
    assert "has them: clip.folder=FOLDER judge.clip.folder=FOLDER" in message
    # The judge's regressor has the encoder in it.
    real = ("encoder=insightface", "encoder.root=x", "clip=vit_l14", "face3d=bfm", "face3d.root=x")
    with pytest.raises(MissingPublished) as caught:
        check_published(composed(*real, "clip_pair=vit_l14"), "judge")
    assert "has them: clip.folder=FOLDER judge.clip.folder=FOLDER" in str(caught.value)
    with pytest.raises(MissingPublished) as caught:
        check_published(composed(*real, f"clip.folder={tmp_path}"), "judge")
    assert str(caught.value).count("hf download") == 1
    config = composed("clip_pair=vit_l14", f"judge.clip.folder={tmp_path}")
    check_published(config)  # only scoring needs it
    with pytest.raises(MissingPublished, match=f"missing in judge.clip.folder={tmp_path}: all of"):
        check_published(config, "judge")


@pytest.mark.parametrize("chosen", [(), ("backbone.variant=null",)])
def test_a_checkpoint_without_halves_is_a_backbone(
    composed: Callable[..., DictConfig], tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    base = write_sd15(tmp_path / "base", variant=None)
    config = composed("backbone=sd15", f"backbone.folder={base}", *chosen)
    check_published(config)
    assert instantiate(config.backbone).text_dim == 8
    (base / "text_encoder" / "model.safetensors").write_bytes(b"")
    with pytest.raises(MissingPublished, match=r"missing in backbone\.folder=.*: text_encoder/mod"):
        check_published(config)


def test_a_paper_s_preset_selects_mattes_draws_and_judges_as_it_does(
    composed: Callable[..., DictConfig],
) -> None:
    given = ("scale=sdxl", "data=folder", "data.root=photos", "paper=hifi_portrait")
    config = composed(*given)
    assert config.select._target_.endswith("QualityAndAngle")
    assert config.select.angle_weight == 0.5
    assert config.data.matting._target_.endswith("OnnxMatting")
    assert (config.sampler._target_.rsplit(".", 1)[1], config.sampler.steps) == (
        *("SDXLLightning", 8),
    )
    assert (config.data.targets_of, config.data.judges) == ("others", "references")
    # Also after a system, which names a selection of its own; what is typed goes before it.
    assert composed(*given, "system=instantid").select._target_.endswith("QualityAndAngle")
    typed = composed(*given, "select=random", "data.judges=4")
    assert (typed.select._target_.endswith("RandomReference"), typed.data.judges) == (True, 4)


def test_fpgas_preset_has_its_numbers_in_each_of_three_stages(
    composed: Callable[..., DictConfig],
) -> None:
    given = ("scale=sd15", "system=fpga", "paper=fpga")
    config = composed(*given, "budget=full")
    optimiser = config.optimiser
    assert (optimiser.learning_rate, optimiser.zero_learning_rate) == (1e-4, 1e-4)
    assert (optimiser.schedule, optimiser.warmup_steps) == ("constant", 0)
    assert (config.batch_size, config.prompt_dropout, config.budget.steps) == (128, 0.1, 1_000_000)
    assert config.sampler._target_.endswith("DDIM")
    assert (config.sampler.steps, config.sampler.guidance) == (30, 5.0)
    assert (config.transform.every, config.objective.terms.clone_faces.weight) == (10, 0.2)
    assert config.objective.terms.clone_faces.least == 32
    assert set(config.objective.terms) == {"noise", "clone_faces"}  # eq. 4
    assert (config.fusion.tokens, 768 % config.fusion.heads, config.refs) == (4, 0, 1)
    net = config.net
    assert (net.way_in, net.reads_noise, net.noise_gate, net.start) == ("pixels", True, 0, None)
    assert config.cond._target_.endswith("LandmarkOrSkeletonCond")
    first = composed(*given, "cond=landmarks", "transform=none", "budget.steps=50000")
    second = composed(
        *given, "cond=skeleton", "transform=none", "budget.steps=100000", "init=FIRST"
    )
    assert [stage.budget.steps for stage in (first, second)] == [50_000, 100_000]
    assert first.cond._target_.endswith("LandmarkCond")
    assert second.cond._target_.endswith("SkeletonCond")
    assert first.transform._target_.endswith("NoTransform")
    terms = composed("scale=mini", "system=fpga").objective.terms
    assert "identity" in terms
    smaller = terms.clone_faces
    assert (smaller.least, smaller.weight) == (8, 0.2)
