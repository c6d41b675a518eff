"""Every net's way out and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from exporting import model_of, settings_of
from PIL import Image
from safetensors.torch import load_file

from portraitlab.deploy.export.folder import write_export
from portraitlab.deploy.pipeline import PortraitPipeline
from portraitlab.method.net.reparameterised import LayerPair
from portraitlab.world.pretrained import load_controlnet


@pytest.mark.parametrize(
    "overrides",
    [
        ("net=adapter", "cond=none"),
        ("net=adapter", "net.noise_gate=0.5"),
        ("system=instantid",),
        ("system=photomaker",),
        ("system=flashface",),
        ("net=controlnet",),
        ("net=ffrnet",),
        ("net=ffrnet", "cond=none"),
        ("net=ffrnet", "net.way_in=pixels", "net.reads_noise=true", "net.start=null"),
        ("net=mmf",),
        ("net=mmf", "cond=none"),
        ("net=mmf", "net.way_in=pixels", "net.reads_noise=true", "net.start=null"),
        ("system=fpga", "cond.drawn=landmarks"),
        ("net=rep_controlnet",),
        ("net=rep_controlnet", "net.way_in=pixels", "fusion=none"),
        ("net=rep_controlnet", "cond=none"),
        ("net=text_concat",),
        ("net=text_concat", "cond=none"),
        ("net=none",),
        ("fusion=none",),
        ("net.reads_noise=true", "net.start=null"),
        ("cond=none",),
    ],
    ids=" ".join,
)
def test_every_net_comes_back_and_draws(
    tmp_path: Path, pictures: list[Image.Image], overrides: tuple[str, ...]
) -> None:
    config = settings_of(*overrides)
    model = model_of(config)
    write_export(model, config, tmp_path / "out", "a card", key="0", commit=None)
    pipe = PortraitPipeline.from_pretrained(tmp_path / "out")
    own, state = model.trained_state_dict(), pipe.model.trained_state_dict()
    assert own.keys() == state.keys()
    for name, value in own.items():
        assert torch.equal(value, state[name]), name
    (image,) = pipe(pictures[:2], pictures[3])
    assert image.size == (64, 64)
    assert np.asarray(image).std() > 1


def test_photos_without_joints_are_drawn_from_landmarks_where_that_is_chosen(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    config = settings_of("system=fpga")
    write_export(model_of(config), config, tmp_path / "out", "a card", key="0", commit=None)
    pipe = PortraitPipeline.from_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match=r"needs the body's joints.*cond.drawn=landmarks"):
        pipe(pictures[:1], pictures[3])
    chosen = {"cond.drawn": "landmarks"}
    pipe = PortraitPipeline.from_pretrained(tmp_path / "out", settings=chosen)
    (image,) = pipe(pictures[:1], pictures[3])
    assert np.asarray(image).std() > 1


def test_controlnets_of_the_user_s_own_are_built_again(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    """One that a net started from is in its weights; a frozen one beside it must be given."""
    load_controlnet().save_pretrained(tmp_path / "own")
    loader = "diffusers.ControlNetModel.from_pretrained"
    given = f"{{_target_: {loader}, pretrained_model_name_or_path: {tmp_path / 'own'}}}"
    config = settings_of("net=hifi_net", f"net.start={given}")
    write_export(model_of(config), config, tmp_path / "started", "a card", key="0", commit=None)
    assert str(tmp_path) not in (tmp_path / "started" / "net" / "config.json").read_text()
    assert PortraitPipeline.from_pretrained(tmp_path / "started")(pictures[:1])
    config = settings_of("net=adapter", f"net.controlnet={given}")
    write_export(model_of(config), config, tmp_path / "beside", "a card", key="0", commit=None)
    name = "net.controlnet.pretrained_model_name_or_path"
    with pytest.raises(ValueError, match=f"needs paths on this machine: {name}"):
        PortraitPipeline.from_pretrained(tmp_path / "beside")
    places = {name: str(tmp_path / "own")}
    assert PortraitPipeline.from_pretrained(tmp_path / "beside", settings=places)(pictures[:1])


def test_tensors_that_share_their_memory_are_written(tmp_path: Path) -> None:
    config = settings_of("net=adapter", "cond=none")
    model = model_of(config)
    model.net.keys[0].weight = model.net.keys[1].weight = torch.nn.Parameter(
        model.net.keys[0].weight.detach().clone()
    )
    write_export(model, config, tmp_path / "out", "a card", key="0", commit=None)
    weights = load_file(tmp_path / "out" / "net" / "model.safetensors")
    assert torch.equal(weights["keys.0.weight"], weights["keys.1.weight"])


def test_a_merged_unet_is_exported_for_other_programs(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    config = settings_of("net=rep_controlnet")
    model, out = model_of(config), tmp_path / "out"
    write_export(model, config, out, "a card", key="0", commit=None)
    stock, found = UNet2DConditionModel.from_pretrained(out / "unet", output_loading_info=True)
    assert not any(found.values()), found
    merged = model.net.merged_unet(model.backbone).state_dict()
    torch.testing.assert_close(stock.state_dict(), merged, atol=0, rtol=0)
    assert not torch.equal(merged["conv_in.weight"], model.backbone.unet.conv_in.weight)
    # The pipeline merges the copies itself, and never runs the pairs.
    pipe = PortraitPipeline.from_pretrained(out)
    pairs = [each for each in pipe.model.net.modules() if isinstance(each, LayerPair)]
    for pair in pairs:
        pair.register_forward_hook(lambda *call: pytest.fail("a pair ran"))
    (image,) = pipe(pictures[:2], pictures[3])
    settings = {"net.beta": 0.27}
    other = PortraitPipeline.from_pretrained(out, settings=settings)
    (weaker,) = other(pictures[:2], pictures[3])
    assert len(pairs) > 50
    assert np.abs(np.asarray(image).astype(int) - np.asarray(weaker)).max() > 5
    # What it is merged for does not change.
    cond = {"cond": settings_of("cond=keypoints")["cond"]}
    with pytest.raises(ValueError, match=r"another control image, .*LandmarkCond, is merged"):
        PortraitPipeline.from_pretrained(out, settings=cond)
