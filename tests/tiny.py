"""Tiny real models for all tests: the libraries' own classes, random weights, seeded."""

from __future__ import annotations

import torch

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import (
    Batch,
    BodyJoints,
    FaceCoefficients,
    FaceFeatures,
    FaceGeometry,
    Pictures,
    TextFeatures,
)


def make_backbone(seed: int = 0, size: int = 32, prediction_type: str = "v_prediction") -> Backbone:
    """A backbone of real diffusers and transformers classes on images of `size` pixels, f = 2."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    dim = 16
    unet = UNet2DConditionModel(
        sample_size=size // 2,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=dim,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=size,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=64,
            hidden_size=dim,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )

    def tokenizer(prompts: list[str]) -> torch.Tensor:
        rows = [[0, *(2 + len(word) % 60 for word in text.split())][:7] for text in prompts]
        return torch.tensor([row + [1] * (8 - len(row)) for row in rows])

    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    return Backbone(unet, autoencoder, text_encoder, tokenizer, scheduler, latent_scale=0.8)


TRUNK = {
    "embedding_size": 4,
    "hidden_sizes": [4, 8],
    "depths": [1, 1],
    "layer_type": "basic",
    "num_channels": 3,
}


def make_recogniser(seed: int = 0) -> torch.nn.Module:
    """The world's recogniser with a tiny trunk and random weights."""
    from portraitlab.world.models.recognisers import ResidualRecogniser

    torch.manual_seed(seed)
    return ResidualRecogniser(TRUNK).eval().requires_grad_(False)


def make_regressor(seed: int = 0) -> torch.nn.Module:
    """The world's face regressor with a tiny trunk and random weights."""
    from portraitlab.world.models.regressor import FaceRegressor
    from portraitlab.world.pretrained import load_face_model

    torch.manual_seed(seed)
    model = FaceRegressor(load_face_model(), TRUNK, image_size=32)
    return model.eval().requires_grad_(False)


def make_body(batch: int, seed: int = 0) -> BodyJoints:
    """Joints somewhere in the image, most of them visible."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.1 + 0.8 * torch.rand(batch, 18, 2, generator=generator)
    return BodyJoints(points, (torch.rand(batch, 18, generator=generator) < 0.9).float())


def make_geometry(
    generator: torch.Generator, batch: int, coefficients: bool = True, body: bool = False
) -> FaceGeometry:
    """Faces near the middle of the image, of the world's shape and expression numbers."""
    from portraitlab.faces.alignment import TEMPLATE
    from portraitlab.world.identity import SHAPE_SIZE
    from portraitlab.world.settings import EXPRESSION_SIZE

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    pose = torch.cat([0.2 * normal(batch, 3), torch.full((batch, 3), 0.5)], dim=1)
    pose[:, 3] = 0.25
    return FaceGeometry(
        keypoints=0.5 * TEMPLATE + 0.25 + 0.01 * normal(batch, 5, 2),
        score=torch.ones(batch),
        coefficients=(
            FaceCoefficients(normal(batch, SHAPE_SIZE), normal(batch, EXPRESSION_SIZE), pose)
            if coefficients
            else None
        ),
        body=make_body(batch) if body else None,
    )


def make_batch(
    seed: int = 0,
    batch: int = 3,
    refs: int = 4,
    size: int = 16,
    dims: tuple[int, int, int] = (10, 12, 5),
    coefficients: bool = True,
    latents: bool = False,
    body: bool = False,
    pictures: bool = False,
) -> Batch:
    """Random samples for `make_backbone`; dims are local width d1, global width d2, tokens L.

    Sample i has refs - i references, at least one. latents, body, pictures: True adds the latents
    of the references, the joints of the bodies, and pictures of twice the latents' edge.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    local_dim, global_dim, length = dims
    counts = (refs - torch.arange(batch)).clamp(min=1)
    mask = torch.arange(refs) < counts[:, None]
    references = FaceFeatures(
        local_=normal(batch, refs, length, local_dim) * mask[..., None, None],
        global_=torch.nn.functional.normalize(normal(batch, refs, global_dim), dim=-1)
        * mask[..., None],
        mask=mask,
        latents=normal(batch, refs, 4, size, size) * mask[..., None, None, None]
        if latents
        else None,
    )
    return Batch(
        latents=normal(batch, 4, size, size),
        text=TextFeatures(normal(batch, 8, 16)),
        references=references,
        shape_geometry=make_geometry(generator, batch, coefficients, body),
        target_geometry=make_geometry(generator, batch, coefficients, body),
        identity=torch.nn.functional.normalize(normal(batch, 128), dim=-1),
        person=torch.rand(batch, 1, size, size, generator=generator),
        target_index=torch.arange(batch),
        pictures=make_pictures(batch, size, generator) if pictures else None,
    )


def make_pictures(batch: int, size: int, generator: torch.Generator) -> Pictures:
    """Random styles and profiles, all of which are prompts."""
    style, profile = torch.rand(2, batch, 3, 2 * size, 2 * size, generator=generator) * 2 - 1
    return Pictures(
        style=style,
        profile=profile,
        latents=torch.randn(batch, 4, size, size, generator=generator),
        person=torch.rand(batch, 1, size, size, generator=generator),
        prompted=torch.ones(batch, dtype=torch.bool),
        seed=torch.arange(batch),
    )
