"""Tiny models written to disk in the layout and the names of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cleanfid import inception_pytorch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from portraitlab.diffusion.architectures import SCHEDULE
from portraitlab.support.hashes import file_digest
from portraitlab.support.hub import Repository

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_tokenizer(folder: Path, pad: str) -> int:
    """A CLIP tokenizer that knows letters; returns how many tokens it has."""
    folder.mkdir(parents=True)
    tokens = [pad, *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"unk_token": "<|endoftext|>", "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    own = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**own, "do_lower_case": True}))
    return len(vocabulary)


def text_config(vocabulary: int, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=0,  # as published, where the end is found as the highest number
        eos_token_id=2,
        pad_token_id=1,
    )


def tiny_unet(text_dim: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=text_dim,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def tiny_autoencoder(scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=scale,
    )


def write_sd15(folder: Path, variant: str | None = "fp16") -> Path:
    """Stable Diffusion 1.5's layout, halves in the files where there is a variant."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer", "<|endoftext|>")
    text = CLIPTextModel(text_config(vocabulary, 8))
    for module, name in ((tiny_unet(8), "unet"), (tiny_autoencoder(0.18215), "vae")):
        module.save_pretrained(folder / name, variant=variant)
    text.save_pretrained(folder / "text_encoder", variant=variant)
    _as_published(folder / "text_encoder")
    DDIMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    return folder


def write_sdxl(folder: Path, variant: str | None = "fp16") -> tuple[Path, Path]:
    """SDXL's layout, and that of the autoencoder beside it."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer", "<|endoftext|>")
    write_tokenizer(folder / "tokenizer_2", "!")
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    unet = tiny_unet(20, **more, projection_class_embeddings_input_dim=6 * 4 + 12)
    unet.save_pretrained(folder / "unet", variant=variant)
    first = CLIPTextModel(text_config(vocabulary, 8))
    second = CLIPTextModelWithProjection(text_config(vocabulary + 1, 12))
    first.save_pretrained(folder / "text_encoder", variant=variant)
    _as_published(folder / "text_encoder")
    second.save_pretrained(folder / "text_encoder_2", variant=variant)
    DDIMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    autoencoder = folder.with_name("autoencoder")
    tiny_autoencoder(0.13025).save_pretrained(autoencoder)
    return folder, autoencoder


def write_student(folder: Path, unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """A LoRA of all layers of a UNet's blocks, named as SDXL-Lightning's of SDXL's 788 are.

    Returns what it adds to their weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    rank, alpha = 2, 1.0
    weights, added = {}, {}
    for name, module in unet.named_modules():
        in_block = name.startswith(("down_blocks", "mid_block", "up_blocks"))
        if not in_block or not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            continue
        width, *inner = module.weight.shape
        down = torch.randn(rank, *inner, generator=generator) / 4
        up = torch.randn(width, rank, generator=generator) / 4
        # On the layer's device: at full size it takes 10 GB, and none on the device "meta".
        factors = (each.to(module.weight.device) for each in (up, down))
        added[name] = alpha / rank * torch.einsum("or,r...->o...", *factors)
        key = f"lora_unet_{name.replace('.', '_')}"
        weights[f"{key}.lora_down.weight"] = down
        weights[f"{key}.lora_up.weight"] = up.reshape(width, rank, *(1 for _ in inner[1:]))
        weights[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(weights, folder / "sdxl_lightning_8step_lora.safetensors")
    return added


def write_clip(folder: Path) -> Path:
    """A CLIP with its image processor and tokenizer, for pictures of 28 px."""
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder, "<|endoftext|>")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2}
    vision = {**small, "image_size": 28, "patch_size": 14}
    # As published, where the end is found as the highest number.
    text = {**small, "vocab_size": vocabulary, "eos_token_id": 2, "bos_token_id": 0}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8))
    model.save_pretrained(folder)
    seen = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    seen.save_pretrained(folder)
    return folder


def random_inception() -> Any:
    """FID's Inception-v3 as clean-fid builds it, with random weights instead of a download."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        net = inception_pytorch.fid_inception_v3()
    for module in net.modules():  # statistics of its own, so that random weights see something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.rand(4, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return net.eval()


def write_inception(net: Any, folder: Path) -> Path:
    """Its file as published: no counters of batches, and a name that ends in its digest."""
    path = folder / "weights.pth"
    state = net.state_dict()
    torch.save({n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, path)
    return path.rename(path.with_name(f"pt_inception-2015-12-05-{file_digest(path)[:8]}.pth"))


def _as_published(folder: Path) -> None:
    """Put the names of a text encoder's weights below text_model, where they were published."""
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        renamed = {
            name if name.startswith("text_") else f"text_model.{name}": value
            for name, value in weights.items()
        }
        save_file(renamed, path, metadata={"format": "pt"})


def published(*files: str, setting: str = "backbone.folder") -> Repository:
    return Repository("somebody/something", "0" * 40, files, 1.5, "a licence", setting)
