"""Loaders of the world's frozen models, from the weights shipped in the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from portraitlab.faces.face3d.linear import LinearFaceModel
from portraitlab.world.landmarks import KEYPOINTS_FROM_72, landmark_model
from portraitlab.world.low_rank import add_differences

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel

    from portraitlab.diffusion.backbone import Backbone, Tokenizer
    from portraitlab.world.models.autoencoder import UnshuffledAutoencoder
    from portraitlab.world.models.clip import ClipEncoder
    from portraitlab.world.models.detector import HeatMapDetector
    from portraitlab.world.models.dino import SelfSupervisedEncoder
    from portraitlab.world.models.light import LightEstimator
    from portraitlab.world.models.quality import FaceQualityNet
    from portraitlab.world.models.recognisers import WorldRecogniser
    from portraitlab.world.models.regressor import FaceRegressor
    from portraitlab.world.models.restorer import FaceRestorer
    from portraitlab.world.models.text_to_image import CanvasImagePrompt, TextToImage

WEIGHTS = Path(__file__).resolve().parent / "weights"


class MissingWeights(ValueError):
    """The weights of a frozen model are missing, or differ from foundation.json's checksum."""


def _listing(folder: Path) -> dict[str, Any]:
    path = folder / "foundation.json"
    if not path.exists():
        raise MissingWeights(
            f"{path} is missing: the package was installed without its weights. "
            "Install it again, or train them with `python -m portraitlab.pretraining.all`"
        )
    return json.loads(path.read_text())


def entry(name: str, folder: Path = WEIGHTS) -> dict[str, Any]:
    """Read a model's entry of foundation.json: config, sha256, training and quality."""
    listing = _listing(folder)
    if name not in listing:
        raise MissingWeights(
            f"{folder / 'foundation.json'} has no model {name!r}; "
            f"it has {', '.join(sorted(listing))}"
        )
    return listing[name]


def read_weights(name: str, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """Read a model's weights by name in single precision, and verify their checksum."""
    described = entry(name, folder)
    path = folder / described["file"]
    remedy = f"Install the package again, or run `{described['training']['command']}`"
    if not path.exists():
        raise MissingWeights(f"{path} is missing. {remedy}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != described["sha256"]:
        raise MissingWeights(
            f"{path} has sha256 {found[:12]}…, but foundation.json names "
            f"{described['sha256'][:12]}…. {remedy}"
        )
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in load_file(path).items()
    }


def load_weights(name: str, model: nn.Module, folder: Path = WEIGHTS) -> None:
    """Load a model's weights, verify their checksum, and freeze the model."""
    model.load_state_dict(read_weights(name, folder))
    model.eval().requires_grad_(False)


def load_face_model() -> LinearFaceModel:
    """Build the 3DMM of the world's heads at its 72 landmarks; it is computed, not learned."""
    model = landmark_model()
    return LinearFaceModel(
        torch.from_numpy(model.mean),
        torch.from_numpy(model.shape_basis),
        torch.from_numpy(model.expression_basis),
        keypoints=KEYPOINTS_FROM_72,
        beyond=(68, 69, 70, 71),
    )


def _check_name(kind: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ValueError(f"the world has no {kind} {name!r}; choose {' or '.join(names)}")


def load_regressor(name: str = "regressor", folder: Path = WEIGHTS) -> FaceRegressor:
    """Load a regressor of shape, expression, pose and face score (plays DECA and RetinaFace).

    name: `regressor` conditions and trains, `judge_regressor` only scores.

    Raises:
        ValueError: any other name.
    """
    from portraitlab.world.models.regressor import FRAMINGS, FaceRegressor

    _check_name("regressor", name, FRAMINGS)
    config = entry(name, folder)["config"]
    model = FaceRegressor(load_face_model(), config, framing=FRAMINGS[name])
    load_weights(name, model, folder)
    return model


def load_recogniser(name: str, folder: Path = WEIGHTS) -> WorldRecogniser:
    """Load a face recogniser (plays ArcFace).

    name: `recogniser` conditions and drives the identity loss; `judge` and `second_judge` only
    score.

    Raises:
        ValueError: any other name.
    """
    from portraitlab.world.models.recognisers import ARCHITECTURES

    _check_name("recogniser", name, ARCHITECTURES)
    architecture, _ = ARCHITECTURES[name]
    model = architecture(entry(name, folder)["config"])
    load_weights(name, model, folder)
    return model


def load_detector(folder: Path = WEIGHTS) -> HeatMapDetector:
    """Load the detector of faces: a box, a score and five points each (plays RetinaFace)."""
    from portraitlab.world.models.detector import HeatMapDetector

    model = HeatMapDetector(entry("detector", folder)["config"])
    load_weights("detector", model, folder)
    return model


def load_dino(folder: Path = WEIGHTS) -> SelfSupervisedEncoder:
    """Load the self-supervised image encoder (plays DINO)."""
    from portraitlab.world.models.dino import SelfSupervisedEncoder

    model = SelfSupervisedEncoder(entry("dino", folder)["config"])
    load_weights("dino", model, folder)
    return model


def load_quality(folder: Path = WEIGHTS) -> FaceQualityNet:
    """Load the quality model of aligned faces (plays ModelScopeFQA)."""
    from portraitlab.world.models.quality import FaceQualityNet

    model = FaceQualityNet(entry("quality", folder)["config"])
    load_weights("quality", model, folder)
    return model


def load_restorer(folder: Path = WEIGHTS) -> FaceRestorer:
    """Load the net of blind face restoration (plays CodeFormer)."""
    from portraitlab.world.models.restorer import FaceRestorer

    model = FaceRestorer(**entry("restorer", folder)["config"])
    load_weights("restorer", model, folder)
    return model


def load_light(folder: Path = WEIGHTS) -> LightEstimator:
    """Load the estimator of the direction of a photo's light, which only scores."""
    from portraitlab.world.models.light import LightEstimator

    model = LightEstimator(**entry("light", folder)["config"])
    load_weights("light", model, folder)
    return model


def load_clip(name: str = "clip", folder: Path = WEIGHTS) -> ClipEncoder:
    """Load a CLIP-like pair of image and text encoders.

    name: `clip` conditions and trains, `judge_clip` only scores.

    Raises:
        ValueError: any other name.
    """
    from portraitlab.world.models.clip import ClipEncoder

    _check_name("CLIP", name, ("clip", "judge_clip"))
    model = ClipEncoder(entry(name, folder)["config"])
    load_weights(name, model, folder)
    return model


def load_autoencoder(folder: Path = WEIGHTS) -> UnshuffledAutoencoder:
    """Load the autoencoder of 64 px images and 4 x 16 x 16 latents."""
    from portraitlab.world.models.autoencoder import UnshuffledAutoencoder

    model = UnshuffledAutoencoder(entry("autoencoder", folder)["config"])
    load_weights("autoencoder", model, folder)
    return model


def load_controlnet(folder: Path = WEIGHTS) -> ControlNetModel:
    """Load the ControlNet for faces from which HiFi-Net starts."""
    from portraitlab.world.models.controlnet import make_controlnet

    model = make_controlnet(entry("controlnet", folder)["config"])
    load_weights("controlnet", model, folder)
    return model


def load_attention_start(folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """Read the keys and values from which net=adapter starts, under the adapter's names."""
    return read_weights("attention_start", folder)


def load_backbone(folder: Path | str = WEIGHTS) -> Backbone:
    """Load autoencoder, text encoder, UNet and noise schedule of portraits."""
    from portraitlab.world.models.text_to_image import PROMPT_LENGTH, TextToImage
    from portraitlab.world.tokenizer import WordTokenizer

    folder = Path(folder)
    model = TextToImage(entry("text_to_image", folder)["config"])
    return _backbone("text_to_image", model, WordTokenizer(PROMPT_LENGTH), folder)


def load_canvas_backbone(folder: Path | str = WEIGHTS) -> Backbone:
    """Load the backbone of the larger canvas, 128 px: portraits, bodies and groups."""
    from portraitlab.world.models.text_to_image import PROMPT_LENGTH, CanvasTextToImage
    from portraitlab.world.tokenizer import CANVAS_VOCABULARY, WordTokenizer

    folder = Path(folder)
    model = CanvasTextToImage(entry("canvas", folder)["config"])
    return _backbone("canvas", model, WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY), folder)


def load_image_prompt(folder: Path | str = WEIGHTS) -> CanvasImagePrompt:
    """Load the encoder of images as words [B, 4, 128] of the canvas's UNet."""
    from portraitlab.world.models.text_to_image import CanvasImagePrompt, CanvasTextToImage

    folder = Path(folder)
    model = CanvasTextToImage(entry("canvas", folder)["config"])
    load_weights("canvas", model, folder)
    return CanvasImagePrompt(load_clip(), model.image_prompt)


def load_matching_net(folder: Path | str = WEIGHTS) -> ControlNetModel:
    """Load the net that matches two pictures side by side on the larger canvas (IC-Portrait).

    Leaves the random state as it is, so that a net starts alike with and without it.
    """
    with torch.random.fork_rng(devices=[]):
        return _canvas_branch("matching", Path(folder))


def load_canvas_controlnet(folder: Path | str = WEIGHTS) -> ControlNetModel:
    """Load the ControlNet of bodies by landmarks or skeleton (plays OpenPose's)."""
    return _canvas_branch("canvas_controlnet", Path(folder))


def _canvas_branch(name: str, folder: Path) -> ControlNetModel:
    from portraitlab.world.models.controlnet import grow_branch

    unet = load_canvas_backbone(folder).unet
    model = grow_branch(unet, **entry(name, folder)["config"])
    model.load_state_dict(add_differences(read_weights(name, folder), unet.state_dict()))
    return model.eval().requires_grad_(False)


def _backbone(name: str, model: TextToImage, tokenizer: Tokenizer, folder: Path) -> Backbone:
    from portraitlab.diffusion.backbone import Backbone
    from portraitlab.world.models.text_to_image import make_scheduler

    load_weights(name, model, folder)
    described = entry(name, folder)
    return Backbone(
        unet=model.unet,
        autoencoder=load_autoencoder(folder),
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        scheduler=make_scheduler(),
        latent_scale=described["latent_scale"],
        latent_shift=described["latent_shift"],
    )


def load_student(folder: Path = WEIGHTS) -> UNet2DConditionModel:
    """Load the portraits' UNet that draws in four steps of DDIM without guidance."""
    from portraitlab.world.models.student import add_low_rank

    weights = read_weights("student", folder)
    unet = load_backbone(folder).unet
    add_low_rank(unet, entry("student", folder)["config"])
    unet.load_state_dict(
        {name.removeprefix("unet."): value for name, value in weights.items()}, strict=False
    )
    unet.fuse_lora()
    unet.unload_lora()
    return unet.requires_grad_(False)
