"""Stable Diffusion's backbones, from files in the published layout and without weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from placed import REAL
from publishing import published, tiny_unet, write_sd15, write_sdxl
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from portraitlab.diffusion.own_precision import OwnPrecision
from portraitlab.diffusion.precisions import cast_once
from portraitlab.diffusion.sd15 import load_sd15
from portraitlab.diffusion.sdxl import SDXL, load_sdxl
from portraitlab.diffusion.tokenizers import ClipTokens, WordNumbers
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.support.hub import MissingPublished, read_model
from portraitlab.types import Condition, IdentityTokens, Injection

PUBLISHED = REAL / "sdxl-base-1.0"
PROMPTS = ["a man in a red shirt", "a painting"]
WORDS = "unet/config.json"

real = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason=f"no published configurations at {PUBLISHED}"
)


@pytest.fixture(scope="module")
def sdxl_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_sdxl(tmp_path_factory.mktemp("sdxl") / "model")


@pytest.fixture(scope="module")
def sdxl(sdxl_folders: tuple[Path, Path]) -> SDXL:
    folder, autoencoder = map(str, sdxl_folders)
    wanted = published(WORDS), published("config.json")
    return load_sdxl(*wanted, folder, autoencoder, variant="fp16", precision="float32")


def test_sd15_predicts_as_its_own_pipeline(tmp_path: Path) -> None:
    folder = write_sd15(tmp_path / "model")
    backbone = load_sd15(published(WORDS), str(folder), variant="fp16", precision="float32")
    pipeline = StableDiffusionPipeline(
        backbone.autoencoder.autoencoder, backbone.text_encoder, backbone.tokenizer.tokenizer,
        backbone.unet, backbone.scheduler, None, None, requires_safety_checker=False,
    )  # fmt: skip
    expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    text = backbone.encode_text(PROMPTS)
    torch.testing.assert_close(text.words, expected)
    assert text.added is None
    assert backbone.latent_scale.item() == pytest.approx(0.18215)
    assert (backbone.image_size, backbone.text_dim) == (32, 8)


def test_sdxl_predicts_as_its_own_pipeline(sdxl: SDXL) -> None:
    pipeline = StableDiffusionXLPipeline(
        sdxl.autoencoder.autoencoder, sdxl.text_encoder, sdxl.text_encoder_2,
        sdxl.tokenizer.tokenizer, sdxl.tokenizer_2.tokenizer, sdxl.unet, sdxl.scheduler,
        add_watermarker=False,
    )  # fmt: skip
    words, without, pooled, pooled_without = pipeline.encode_prompt(PROMPTS, device="cpu")
    text = sdxl.encode_text([*PROMPTS, ""])
    torch.testing.assert_close(text.words, torch.cat([words, without[:1]]))
    torch.testing.assert_close(text.pooled, torch.cat([pooled, pooled_without[:1]]))
    assert not text.words[2].any()
    assert text.sizes.tolist() == [[32, 32, 0, 0, 32, 32]] * 3
    noisy, levels = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999])
    added = {"text_embeds": text.pooled, "time_ids": text.sizes}
    with torch.no_grad():
        slow = sdxl.unet(noisy, levels, text.words, added_cond_kwargs=added).sample
        torch.testing.assert_close(sdxl.predict(noisy, levels, text, Injection()), slow)


def test_pooled_text_and_sizes_reach_unet_and_net(sdxl_folders) -> None:
    folder, autoencoder = map(str, sdxl_folders)
    backbone = load_sdxl(
        published(WORDS), published("config.json"), folder, autoencoder, "fp16", "float32"
    )
    net = HiFiNet(backbone, control=True, identity=False)
    for out in net.starting_at_zero():
        torch.nn.init.normal_(out, std=0.2)
    noisy, levels = torch.randn(2, 4, 16, 16), torch.tensor([500, 500])
    text = backbone.encode_text(PROMPTS)
    other = type(text)(text.words, text.pooled + 1, text.sizes)
    drawn = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        one, two = (net(noisy, levels, Condition(prompt, None, drawn)) for prompt in (text, other))
        assert not torch.allclose(one.mid, two.mid)
        one, two = (
            backbone.predict(noisy, levels, prompt, Injection()) for prompt in (text, other)
        )
        assert not torch.allclose(one, two)


def test_half_a_backbone_trains_whole_weights_and_draws_nearly_the_same(sdxl_folders, sdxl) -> None:
    folder, autoencoder = map(str, sdxl_folders)
    half = load_sdxl(
        published(WORDS), published("config.json"), folder, autoencoder, "fp16", "bfloat16"
    )
    assert half.unet.conv_in.weight.dtype == torch.bfloat16
    assert half.unet.conv_norm_out.weight.dtype == torch.float32
    assert half.autoencoder.autoencoder.dtype == torch.float32
    noisy, levels = torch.randn(2, 4, 8, 8), torch.tensor([500, 500])
    text = half.encode_text(PROMPTS)
    assert text.words.dtype == torch.float32
    torch.testing.assert_close(text.words, sdxl.encode_text(PROMPTS).words, atol=0.05, rtol=0.05)
    net = Adapter(half, control=False, identity=True)
    assert {each.dtype for each in net.parameters() if each.requires_grad} == {torch.float32}
    tokens = IdentityTokens(torch.randn(2, 3, half.text_dim), torch.ones(2, 3, dtype=torch.bool))
    with half.computing():
        injection = net(noisy, levels, Condition(text, tokens, None))
        drawn = half.predict(noisy, levels, text, injection)
        drawn.float().square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in net.parameters())


def test_the_autoencoder_keeps_its_precision_under_autocast(sdxl: SDXL) -> None:
    own = OwnPrecision(sdxl.autoencoder.autoencoder)
    images, latents = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        apart = own.encode(images).latent_dist.mode(), own.decode(latents).sample
        with torch.autocast("cpu", torch.bfloat16):
            within = own.encode(images).latent_dist.mode(), own.decode(latents).sample
        with torch.autocast("cpu", torch.bfloat16), cast_once(own, "bf16-mixed"):
            in_training = own.encode(images).latent_dist.mode(), own.decode(latents).sample
    for one, two, three in zip(apart, within, in_training, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_halves_are_never_in_memory_as_wholes(tmp_path: Path) -> None:
    folder = write_sd15(tmp_path / "model")
    (path,) = (folder / "unet").glob("*.fp16.safetensors")
    halves = {name: value.half() for name, value in load_file(path).items()}

    def read() -> set[torch.dtype]:
        unet = read_model(UNet2DConditionModel, folder / "unet", as_stored=True, variant="fp16")
        return {each.dtype for each in unet.parameters()}

    save_file(halves, path, metadata={"format": "pt"})
    assert read() == {torch.float16}
    backbone = load_sd15(published(WORDS), str(folder), variant="fp16")
    for name, value in backbone.unet.state_dict().items():
        expected = torch.float32 if "norm" in name else torch.bfloat16
        assert value.dtype == expected
        assert torch.equal(value, halves[name].to(expected))
    some = next(iter(halves))
    save_file(halves | {some: halves[some].float()}, path, metadata={"format": "pt"})
    assert read() == {torch.float32}


def test_one_error_lists_missing_files_and_commands(tmp_path: Path) -> None:
    pointer = tmp_path / "unet.safetensors"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 5135149760\n")
    (tmp_path / "config.json").write_text("{}")
    weights = published("config.json", "unet.safetensors")
    autoencoder = published("vae.safetensors", setting="backbone.autoencoder_folder")
    with pytest.raises(MissingPublished) as caught:
        load_sdxl(weights, autoencoder, folder=str(tmp_path))
    message = str(caught.value)
    assert (
        f"missing in backbone.folder={tmp_path}: unet.safetensors (Git LFS pointers instead"
        in message
    )
    assert "missing: all of it\n" in message
    assert message.count("somebody/something, revision " + "0" * 40) == 2
    assert message.count("1.5 GB in all, licence a licence") == 2
    fetched = "hf download somebody/something config.json unet.safetensors --revision " + "0" * 40
    assert fetched in message
    assert "or give a folder that has them: backbone.autoencoder_folder=FOLDER" in message


def test_downloads_are_found_in_the_hubs_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--somebody--something" / "snapshots" / ("0" * 40)
    write_sd15(place)
    backbone = load_sd15(published(WORDS, "vae/config.json"), variant="fp16")
    assert backbone.text_dim == 8
    with pytest.raises(MissingPublished, match=r"missing: unet/model\.bin"):
        load_sd15(published(WORDS, "unet/model.bin"), variant="fp16")


def test_a_checkpoint_of_another_size_is_named(tmp_path: Path) -> None:
    folder, autoencoder = write_sdxl(tmp_path / "turbo")
    tiny_unet(8).save_pretrained(folder / "unet", variant="fp16")
    wanted = published(WORDS), published("config.json")
    with pytest.raises(ValueError, match=r"text of width 8, .* give 8 \+ 12: .* backbone\.folder"):
        load_sdxl(*wanted, str(folder), str(autoencoder), variant="fp16")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write_sd15(tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"in .*unet cannot be read as a UNet2D.* fetch it again"):
        load_sd15(published(WORDS), str(folder), variant="fp16")


def test_weights_are_those_of_the_files_and_lack_none(tmp_path: Path) -> None:
    folder = write_sd15(tmp_path / "model")
    backbone = load_sd15(published(WORDS), str(folder), variant="fp16", precision="float32")
    parts = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
    for name, part in parts.items():
        (path,) = (folder / name).glob("*.fp16.safetensors")
        written = load_file(path)
        own = {key: value for key, value in part.state_dict().items() if "position_ids" not in key}
        assert len(own) == len(written) > 0
        for key, value in own.items():
            stored = written.get(key, written.get(f"text_model.{key}"))
            torch.testing.assert_close(value, stored.float())
    (path,) = (folder / "text_encoder").glob("*.safetensors")
    kept = dict(list(load_file(path).items())[2:])
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"text_encoder are not those of a CLIPTextModel: 2 are"):
        load_sd15(published(WORDS), str(folder), variant="fp16")


def test_the_variant_decides_which_files_are_looked_for() -> None:
    weights = published("a/config.json", "a/model.fp16.safetensors", "b/model.safetensors")
    assert weights.in_variant("fp16", None) == weights
    plain = weights.in_variant(None, None)
    assert plain.files == ("a/config.json", "a/model.safetensors", "b/model.safetensors")
    assert (weights.gigabytes, plain.gigabytes) == (1.5, 3.0)
    assert plain.in_variant("fp16", None).files == plain.files  # which have no variants
    other = weights.in_variant("bf16", None)
    assert other.files == ("a/config.json", "a/model.bf16.safetensors", "b/model.safetensors")


def test_a_missing_variant_falls_back_to_the_plain_file(tmp_path: Path) -> None:
    names = [f"unet/diffusion_pytorch_model{variant}.safetensors" for variant in (".fp16", "")]
    weights = published(WORDS, names[0])
    folder = write_sd15(tmp_path / "model", variant=None)
    backbone = load_sd15(weights, str(folder), variant="fp16", precision="float32")
    written = load_file(folder / names[1])
    for name, value in backbone.unet.state_dict().items():
        assert torch.equal(value, written[name])
    # The half beside it is taken where it is there, unless it is not wanted.
    halves = {name: 0 * value.half() for name, value in written.items()}
    save_file(halves, folder / names[0], metadata={"format": "pt"})
    for variant, same in ((None, True), ("fp16", False)):
        unet = load_sd15(weights, str(folder), variant=variant, precision="float32").unet
        assert torch.equal(unet.conv_in.weight, written["conv_in.weight"]) == same
    (folder / names[1]).unlink()
    with pytest.raises(MissingPublished, match=rf"missing in .*: {re.escape(names[1])}\n"):
        load_sd15(weights, str(folder), variant=None)
    (folder / names[0]).unlink()
    with pytest.raises(MissingPublished, match=rf"missing in .*: {re.escape(names[0])}\n"):
        load_sd15(weights, str(folder), variant="fp16")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backbone\.precision=half: choose one of float32, bf"):
        load_sd15(published(WORDS), precision="half", pretrained=False)


def test_random_weights_need_no_memory_on_the_meta_device() -> None:
    backbone = load_sdxl(published(), published(), pretrained=False, device="meta")
    count = sum(parameter.numel() for parameter in backbone.unet.parameters())
    assert count == 2_567_463_684  # as published
    assert backbone.unet.conv_in.weight.is_meta
    assert (backbone.image_size, backbone.latent_size, backbone.text_dim) == (1024, 128, 2048)
    small = load_sd15(published(), pretrained=False, device="meta")
    assert (small.image_size, small.latent_size, small.text_dim) == (512, 64, 768)


@real
def test_random_models_have_the_published_shapes() -> None:
    backbone = load_sdxl(published(), published(), pretrained=False, device="meta")
    kinds = {
        "unet": (UNet2DConditionModel, backbone.unet),
        "vae": (AutoencoderKL, backbone.autoencoder.autoencoder),
        "text_encoder": (CLIPTextModel, backbone.text_encoder),
        "text_encoder_2": (CLIPTextModelWithProjection, backbone.text_encoder_2),
    }
    for name, (kind, own) in kinds.items():
        config = json.loads((PUBLISHED / name / "config.json").read_text())
        with torch.device("meta"):
            built = kind(CLIPTextConfig(**config)) if "text" in name else kind.from_config(config)
        shapes = {key: value.shape for key, value in built.state_dict().items()}
        assert shapes == {key: value.shape for key, value in own.state_dict().items()}
        for key in {"hidden_act", "eos_token_id", "use_linear_projection"} & set(config):
            assert getattr(own.config, key) == config[key]
    schedule = json.loads((PUBLISHED / "scheduler" / "scheduler_config.json").read_text())
    for key in ("beta_start", "beta_end", "beta_schedule", "steps_offset", "prediction_type"):
        assert backbone.scheduler.config[key] == schedule[key]


@real
def test_the_published_tokenizers_pad_each_in_its_own_way() -> None:
    first, second = (
        ClipTokens(CLIPTokenizer.from_pretrained(PUBLISHED / name))(["a photo", ""])
        for name in ("tokenizer", "tokenizer_2")
    )
    assert first.shape == second.shape == (2, 77)
    assert first[0, :5].tolist() == [49406, 320, 1125, 49407, 49407]
    assert second[0, :5].tolist() == [49406, 320, 1125, 49407, 0]


def test_stand_in_tokens_have_the_published_frame() -> None:
    tokens = WordNumbers(pad=0)(["a photo of a dog", "", " ".join(["dog"] * 100)])
    assert tokens.shape == (3, 77)
    assert tokens[0, 1] == tokens[0, 4] != tokens[0, 5]
    assert tokens[1].tolist() == [49406, 49407, *[0] * 75]
    assert (tokens[2, 0], tokens[2, 76]) == (49406, 49407)
    assert WordNumbers().cut(" ".join(["dog"] * 75)) == ""
    assert WordNumbers().cut(" ".join(["dog"] * 75 + ["two", "cats"])) == "two cats"
