"""The pipeline: another base, LoRAs, further ControlNets, and what it refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray
from PIL import Image
from publishing import tiny_unet, write_sd15, write_sdxl, write_student
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms.functional import to_tensor

from portraitlab.data.photo import UnusablePhoto
from portraitlab.deploy.pipeline import PortraitPipeline
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

Export = Callable[..., Path]
Pictures = list[Image.Image]


def pixels(images: Pictures) -> NDArray[np.uint8]:
    return np.stack([np.asarray(image) for image in images])


@pytest.fixture(scope="module")
def exported_xl(export: Export, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Export HiFi-Net on a tiny SDXL; return the base's folder and the export's."""
    base, autoencoder = write_sdxl(tmp_path_factory.mktemp("sdxl") / "base")
    places = (f"backbone.folder={base}", f"backbone.autoencoder_folder={autoencoder}")
    out = export("backbone=sdxl", *places, "backbone.precision=float32", "net.start=null")
    return base, out


@pytest.fixture(scope="module")
def pipe(exported: Path, sd15: Path) -> PortraitPipeline:
    return PortraitPipeline.from_pretrained(exported, sd15)


def test_it_is_a_pipeline_of_diffusers_own_models(pipe: PortraitPipeline, sd15: Path) -> None:
    assert isinstance(pipe.unet, UNet2DConditionModel)
    assert type(pipe.vae).__name__ == "AutoencoderKL"
    assert type(pipe.text_encoder).__name__ == "CLIPTextModel"
    assert pipe.text_encoder_2 is None
    assert set(pipe.components) == {"model", "encoder", "select", "matting"}
    assert pipe.device.type == "cpu"
    with pytest.raises(ValueError, match="copy its folder, or run `portraitlab export RUN OUT`"):
        pipe.save_pretrained("somewhere")


def test_every_picture_has_a_seed_of_its_own(pipe: PortraitPipeline, pictures: Pictures) -> None:
    drawn = pixels(pipe(pictures[:2], pictures[3], seed=5, num_images=6))
    assert drawn.shape == (6, 32, 32, 3)
    alone = pixels(pipe(pictures[:2], pictures[3], seed=9))
    assert np.abs(drawn[4].astype(int) - alone[0]).max() <= 1
    assert not np.array_equal(drawn[0], drawn[1])


def test_every_argument_matters(pipe: PortraitPipeline, pictures: Pictures) -> None:
    own = pixels(pipe(pictures[:2], pictures[3], "abc"))
    for other in (
        pipe(pictures[1:3], pictures[3], "abc"),
        pipe(pictures[:2], pictures[4], "abc"),
        pipe(pictures[:2], pictures[3], "xyz"),
        pipe(pictures[:2], pictures[3], "abc", negative_prompt="xyz"),
        pipe(pictures[:2], pictures[3], "abc", steps=3),
        pipe(pictures[:2], pictures[3], "abc", guidance=7.0),
    ):
        assert not np.array_equal(own, pixels(other))
    first = pixels(pipe(pictures[:2], pictures[0], "abc"))
    assert np.array_equal(first, pixels(pipe(pictures[:2], None, "abc")))


def test_words_that_are_left_out_are_named(
    pipe: PortraitPipeline,
    export: Export,
    pictures: Pictures,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fits = " ".join(["a"] * 75)
    pipe(pictures[:1], prompt=fits, negative_prompt="b", num_images=5)
    assert not caplog.messages
    pipe(pictures[:1], prompt=f"{fits} in red", negative_prompt=f"{fits[:-1]}bad hat", num_images=5)
    assert caplog.messages == [
        "the prompt is too long for the base; it is drawn without 'in red'",
        "the negative prompt is too long for the base; it is drawn without 'bad hat'",
    ]
    caplog.clear()
    own = PortraitPipeline.from_pretrained(export())
    own(pictures[:1], prompt=" ".join(["calm"] * 74 + ["red", "hair"]))
    assert caplog.messages == [
        "the prompt is too long for the base; it is drawn without 'red hair'"
    ]


def test_warns_of_references_of_two_people_and_of_too_many(
    pipe: PortraitPipeline, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    assert pipe(pictures[:4], pictures[4])
    assert not caplog.messages
    assert pipe([*pictures, pictures[0]])
    assert caplog.messages == [
        "6 references are given, and the run was trained with 4 at most; fewer may draw better"
    ]
    caplog.clear()
    other = Image.fromarray(render_photo(IDENTITIES["train"][5], 0, 64).image)
    assert pipe([pictures[0], pictures[1], other], num_images=5)
    (warning,) = caplog.messages
    assert re.match(
        r"references [12] and 3 hardly look like one person \(cosine -?0\.\d\d of", warning
    )


def write_lora(file: Path, **models: nn.Module | None) -> None:
    """A LoRA of all attentions' queries, named as diffusers saves one."""
    torch.manual_seed(0)
    weights = {}
    for prefix, model in models.items():
        assert model is not None
        for name, module in model.named_modules():
            if name.endswith(("to_q", "q_proj")) and isinstance(module, nn.Linear):
                down, up = module.in_features, module.out_features
                inner = "" if prefix == "unet" else "text_model."  # as published
                name = name.removeprefix(inner)
                weights[f"{prefix}.{inner}{name}.lora_A.weight"] = torch.randn(2, down)
                weights[f"{prefix}.{inner}{name}.lora_B.weight"] = torch.randn(up, 2)
    save_file(weights, file)


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_a_lora_changes_the_picture_and_leaves_no_trace(
    pipe: PortraitPipeline,
    exported_xl: tuple[Path, Path],
    pictures: Pictures,
    tmp_path: Path,
    base: str,
) -> None:
    if base == "sdxl":
        folder, out = exported_xl
        autoencoder = {"backbone.autoencoder_folder": str(folder.with_name("autoencoder"))}
        pipe = PortraitPipeline.from_pretrained(out, folder, settings=autoencoder)
    models = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    models |= {"text_encoder_2": pipe.text_encoder_2} if base == "sdxl" else {}

    def drawn() -> NDArray[np.uint8]:
        return pixels(pipe(pictures[:2], pictures[3], "abc", seed=1))

    before = drawn()
    words = pipe.model.backbone.encode_text(["abc"]).words
    for prefix, model in models.items():
        write_lora(tmp_path / f"{prefix}.safetensors", **{prefix: model})
        pipe.use_loras([(tmp_path / f"{prefix}.safetensors", 1.0)])
        assert not np.array_equal(before, drawn()), prefix
        changed = not torch.equal(words, pipe.model.backbone.encode_text(["abc"]).words)
        assert changed == (prefix != "unet")
        pipe.use_loras([(tmp_path / f"{prefix}.safetensors", 0.0)])
        assert np.array_equal(before, drawn())
        pipe.use_loras([])
        assert np.array_equal(before, drawn())
        assert not any("lora" in name for name in model.state_dict())


def test_a_lora_and_a_net_that_are_not_finite_draw_no_picture(
    pipe: PortraitPipeline, pictures: Pictures, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    write_lora(file, unet=pipe.unet)
    weights = {
        name: value * math.nan if "lora_A" in name else value
        for name, value in load_file(file).items()
    }
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"x\.safetensors.*lora_A\.weight is not finite"):
        pipe.use_loras([(file, 1.0)])
    parameter = next(iter(pipe.model.net.parameters()))
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(math.inf)
    with pytest.raises(ValueError, match=r"a drawn picture .* is not finite"):
        pipe(pictures[:2], pictures[3], "abc")
    with torch.no_grad():
        parameter.copy_(before)


def test_a_lora_in_the_names_of_other_programs_is_taken(
    pipe: PortraitPipeline, tmp_path: Path
) -> None:
    attention = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    out = "text_model.encoder.layers.0.self_attn.out_proj"
    width = pipe.unet.get_submodule(f"{attention}.to_q").in_features
    text_width = pipe.text_encoder.config.hidden_size
    for name, size in (
        (f"unet.{attention}.processor.to_q_lora.", width),
        (f"unet.{attention}.to_q.lora.", width),
        (f"lora_unet.{attention}.to_q".replace(".", "_") + ".lora_", width),
        (f"lora_te.{out}".replace(".", "_") + ".lora_", text_width),
    ):
        sides = {"down": torch.ones(2, size), "up": torch.ones(size, 2)}
        sides = {f"{name}{side}.weight": value for side, value in sides.items()}
        save_file(sides, tmp_path / "lora.safetensors")
        pipe.use_loras([(tmp_path / "lora.safetensors", 1.0)])
        assert pipe.get_list_adapters(), name
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    for wrong in ("none", "cut"):
        files = [(tmp_path / f"{name}.safetensors", 1.0) for name in ("lora", wrong)]
        with pytest.raises(ValueError, match=rf"{wrong}\.safetensors is no"):
            pipe.use_loras(files)
        assert not pipe.get_list_adapters()


def test_a_run_that_was_scored_by_a_student_is_drawn_by_it(
    exported_xl: tuple[Path, Path],
    export: Export,
    pictures: Pictures,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base, _ = exported_xl
    autoencoder = base.with_name("autoencoder")
    unet = UNet2DConditionModel.from_pretrained(base / "unet", variant="fp16")
    write_student(tmp_path, unet)
    drawing = {"backbone.precision": "float32", "backbone.autoencoder_folder": str(autoencoder)}
    places = (f"backbone.folder={base}", *(f"{name}={value}" for name, value in drawing.items()))
    out = export("backbone=sdxl", *places, "net.start=null", "sampler=sdxl_lightning")
    with pytest.raises(ValueError, match="hf download ByteDance/SDXL-Lightning sdxl_lightning_8"):
        PortraitPipeline.from_pretrained(out, base, settings=drawing)
    drawing["sampler.folder"] = str(tmp_path)
    pipe = PortraitPipeline.from_pretrained(out, base, settings=drawing)
    drawn = pixels(pipe(pictures[:2], pictures[3], "abc", seed=1))
    for enable in (pipe.enable_model_cpu_offload, pipe.enable_sequential_cpu_offload):
        enable(device="cpu")
        assert np.array_equal(pixels(pipe(pictures[:2], pictures[3], "abc", seed=1)), drawn)
    assert not caplog.messages
    again = pixels(pipe(pictures[:2], pictures[3], "abc", negative_prompt="xyz", seed=1))
    assert np.array_equal(again, drawn)
    assert caplog.messages == [
        "the negative prompt is not read: guidance=1 turns guidance off; give another"
    ]
    with pytest.raises(ValueError, match=r"sampler\.steps is 4, but sdxl_lightning_8step_lora"):
        pipe(pictures[:2], steps=4)
    plain = PortraitPipeline.from_pretrained(
        export("backbone=sdxl", *places, "net.start=null"),
        base,
        settings=dict([*drawing.items()][:2]),
    )
    given = (pictures[:2], pictures[3], "abc")
    own = pixels(plain(*given, steps=8, guidance=1.0, seed=1))
    assert not np.array_equal(own, drawn)
    plain.use_loras([(tmp_path / "sdxl_lightning_8step_lora.safetensors", 1.0)])
    added = pixels(plain(*given, steps=8, guidance=1.0, seed=1))
    assert np.abs(added.astype(int) - drawn).max() <= 1


def test_another_checkpoint_of_the_same_base_is_taken(
    exported: Path, pipe: PortraitPipeline, pictures: Pictures, tmp_path: Path
) -> None:
    other = write_sd15(tmp_path / "other", variant=None)  # as most others are published
    torch.manual_seed(3)
    tiny_unet(8).save_pretrained(other / "unet")
    changed = PortraitPipeline.from_pretrained(exported, other)
    own, state = (each.model.trained_state_dict() for each in (pipe, changed))
    assert all(torch.equal(own[name], state[name]) for name in own)
    assert not torch.equal(pipe.unet.conv_in.weight, changed.unet.conv_in.weight)
    assert not np.array_equal(pixels(pipe(pictures[:2])), pixels(changed(pictures[:2])))


def test_a_base_of_another_form_is_refused(exported: Path, tmp_path: Path) -> None:
    other = write_sd15(tmp_path / "other", variant=None)
    tiny_unet(12).save_pretrained(other / "unet")
    message = "UNet of cross_attention_dim=12, and .* was trained with 8; give a checkpoint of .*"
    with pytest.raises(ValueError, match=message + "stable-diffusion-v1-5"):
        PortraitPipeline.from_pretrained(exported, other)
    with pytest.raises(ValueError, match=r"none is no folder; give a checkpoint in diffusers'"):
        PortraitPipeline.from_pretrained(exported, tmp_path / "none")


@pytest.fixture
def controlnet(pipe: PortraitPipeline, tmp_path: Path) -> Path:
    """A published ControlNet of the tiny base, two pixels a cell."""
    torch.manual_seed(4)
    model = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "controlnet")
    return tmp_path / "controlnet"


def test_a_further_controlnet_adds_its_residuals_by_its_scale(
    pipe: PortraitPipeline, pictures: Pictures, controlnet: Path
) -> None:
    def drawn(*controls: tuple[Image.Image, float]) -> NDArray[np.uint8]:
        added = [pipe.read_control(controlnet, image, scale) for image, scale in controls]
        return pixels(pipe(pictures[:2], pictures[3], seed=1, controls=added))

    layout, other = pictures[4], Image.effect_noise((50, 70), 90)
    assert np.array_equal(drawn(), drawn((layout, 0.0)))
    assert not np.array_equal(drawn(), drawn((layout, 1.0)))
    assert not np.array_equal(drawn((layout, 1.0)), drawn((other, 1.0)))
    halves = drawn((layout, 0.5), (layout, 0.5)).astype(int)
    assert np.abs(halves - drawn((layout, 1.0))).max() <= 1


def test_all_of_it_draws_in_half_precision(
    exported: Path, sd15: Path, pictures: Pictures, controlnet: Path, tmp_path: Path
) -> None:
    half = {"backbone.precision": "bfloat16"}
    pipe = PortraitPipeline.from_pretrained(exported, sd15, settings=half)
    assert pipe.unet.conv_in.weight.dtype == torch.bfloat16
    own = pixels(pipe(pictures[:2], pictures[3], seed=1))
    added = [pipe.read_control(controlnet, pictures[4])]
    assert added[0].controlnet.conv_in.weight.dtype == torch.bfloat16
    assert not np.array_equal(own, pixels(pipe(pictures[:2], pictures[3], controls=added, seed=1)))
    write_lora(tmp_path / "lora.safetensors", unet=pipe.unet)
    pipe.use_loras([(tmp_path / "lora.safetensors", 1.0)])
    assert not np.array_equal(own, pixels(pipe(pictures[:2], pictures[3], seed=1)))
    pipe.use_loras([])
    assert np.array_equal(own, pixels(pipe(pictures[:2], pictures[3], seed=1)))


def test_with_offload_it_draws_the_same(
    exported_xl: tuple[Path, Path], pictures: Pictures, tmp_path: Path
) -> None:
    folder, out = exported_xl
    autoencoder = {"backbone.autoencoder_folder": str(folder.with_name("autoencoder"))}
    pipe = PortraitPipeline.from_pretrained(out, folder, settings=autoencoder)
    ControlNetModel.from_unet(
        pipe.unet, conditioning_embedding_out_channels=(4, 8)
    ).save_pretrained(tmp_path)

    def drawn() -> NDArray[np.uint8]:
        added = [pipe.read_control(tmp_path, pictures[4])]
        return pixels(pipe(pictures[:2], pictures[3], "abc", controls=added, num_images=2))

    alone = drawn()
    for enable in (pipe.enable_model_cpu_offload, pipe.enable_sequential_cpu_offload):
        enable(device="cpu")
        assert np.array_equal(drawn(), alone)
        assert pipe.device == torch.device("cpu")
    pipe.enable_vae_slicing()
    pipe.enable_vae_tiling()
    assert pipe.vae.use_slicing
    assert pipe.vae.use_tiling
    assert np.abs(drawn().astype(int) - alone).max() <= 1  # it is one tile
    with pytest.raises(ValueError, match=r"gpu_id=1 and device=cuda:0 both number the GPU"):
        pipe.enable_model_cpu_offload(1, "cuda:0")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_offload_needs_a_gpu(pipe: PortraitPipeline) -> None:
    with pytest.raises(ValueError, match="torch sees no GPU on this machine, so there is nothing"):
        pipe.enable_model_cpu_offload()


def test_diffusers_own_pipeline_draws_the_same_with_the_exported_net(
    export: Export, sd15: Path, pictures: Pictures
) -> None:
    """Compare without identity tokens and guidance, which a stock pipeline does not have."""
    given = (f"backbone.folder={sd15}", "backbone.precision=float32", "net.start=null")
    more = ("fusion=none", "net.noise_gate=0", "net.reads_noise=true", "sampler.steps=3")
    folder = export("backbone=sd15", *given, *more)
    pipe = PortraitPipeline.from_pretrained(folder, sd15)
    (ours,) = pipe(pictures[:1], pictures[3], "abc", guidance=1.0, seed=4)
    model, seen = pipe.model, [pipe.see(pictures[number]) for number in (0, 3)]
    views = torch.stack([to_tensor(each.view) * 2 - 1 for each in seen])
    geometry = pipe.encoder.analyse(views)
    drawing = model.drawing(geometry[[0]], geometry[[1]])
    backbone = model.backbone
    stock = StableDiffusionControlNetPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=backbone.tokenizer.tokenizer,
        unet=pipe.unet,
        controlnet=ControlNetModel.from_pretrained(folder / "controlnet"),
        scheduler=DDIMScheduler.from_config(
            backbone.scheduler.config, timestep_spacing="trailing", clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    (theirs,) = stock(
        "abc",
        image=drawing - model.net.empty_drawing,
        latents=torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(4)),
        num_inference_steps=3,
        guidance_scale=1.0,
        height=32,
        width=32,
    ).images
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1


def test_a_controlnet_that_does_not_fit_is_refused(
    pipe: PortraitPipeline, exported: Path, pictures: Pictures, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="reads a control image of 4 channels, not a picture"):
        pipe.read_control(exported / "controlnet", pictures[0])
    ControlNetModel.from_unet(tiny_unet(12)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cross_attention_dim=12, and the backbone's UNet 8"):
        pipe.read_control(tmp_path, pictures[0])
    finer = ControlNetModel.from_unet(tiny_unet(8), conditioning_embedding_out_channels=(4, 4, 8))
    finer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"image's side by 4, and the base's .* by 2; give"):
        pipe.read_control(tmp_path, pictures[0])
    with pytest.raises(ValueError, match="cannot be read"):
        pipe.read_control(tmp_path / "none", pictures[0])


def test_arguments_of_other_pipelines_are_accepted_or_refused_with_a_remedy(
    pipe: PortraitPipeline, exported: Path, sd15: Path, pictures: Pictures
) -> None:
    assert np.array_equal(pixels(pipe(pictures[0])), pixels(pipe(pictures[:1])))
    seen = pipe.see(pictures[0])
    assert np.array_equal(pixels(pipe(seen)), pixels(pipe([seen])))
    remedy = r".* from_pretrained\(FOLDER, settings=\{'backbone.precision': 'float16'\}\)"
    with pytest.raises(ValueError, match="torch_dtype, variant: a PortraitPipeline is" + remedy):
        PortraitPipeline.from_pretrained(exported, sd15, torch_dtype=torch.half, variant="fp16")
    for given in (("cpu", torch.float16), (torch.float16,)):
        with pytest.raises(ValueError, match="moved to a device, not cast" + remedy):
            pipe.to(*given)
    for name in ("prompt", "negative_prompt"):
        with pytest.raises(ValueError, match=rf"{name}=\['a', 'b'\] must be one string; call"):
            pipe(pictures[:1], **{name: ["a", "b"]})


def test_bad_input_is_named(pipe: PortraitPipeline, pictures: Pictures) -> None:
    noise = Image.effect_noise((64, 64), 90)
    with pytest.raises(UnusablePhoto, match="reference 2 shows no face; give another photo"):
        pipe([pictures[0], noise])
    with pytest.raises(UnusablePhoto, match="the target shows no face"):
        pipe(pictures[:1], noise)
    with pytest.raises(ValueError, match="There is no reference: give one photo"):
        pipe([])
    with pytest.raises(ValueError, match="num_images=0: a whole number from 1 is needed"):
        pipe(pictures[:1], num_images=0)
    with pytest.raises(ValueError, match="seed=-1: a whole number from 0 to"):
        pipe(pictures[:1], seed=-1)
    with pytest.raises(ValueError, match=r"sampler\.steps=0: a whole"):
        pipe(pictures[:1], steps=0)
