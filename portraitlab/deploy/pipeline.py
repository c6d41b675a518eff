"""Draw new portraits from photos of a person with an exported run, as a diffusers pipeline."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, ControlNetModel, DiffusionPipeline, UNet2DConditionModel
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms import functional
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from portraitlab.data.photo import DecodedPhoto, UnusablePhoto, as_photo
from portraitlab.data.usable import UsablePortrait, usable_portrait
from portraitlab.deploy.controls import Control, WithControls
from portraitlab.deploy.export.folder import read_export
from portraitlab.deploy.export.settings import another_base, own_errors, with_changes
from portraitlab.deploy.gathering import gather
from portraitlab.deploy.groups import GroupMember, Picture, check_boxes, together, warn_of_overlap
from portraitlab.deploy.offload import Mode, accelerator, offloaded
from portraitlab.diffusion.loras import LoraLoader
from portraitlab.diffusion.own_precision import OwnPrecision
from portraitlab.diffusion.precisions import products_in
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.matting.base import Matting
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.stock import check_fit
from portraitlab.method.sampler.base import Sampler
from portraitlab.method.select.selection import Selection
from portraitlab.scoring.pictures import to_image
from portraitlab.support.checks import check_whole
from portraitlab.support.hub import read_model
from portraitlab.training.build import build_model, check_published
from portraitlab.types import Batch

_log = logging.getLogger(__name__)

_PRECISION = (
    "Its precision is a setting of the base: from_pretrained(FOLDER, "
    "settings={'backbone.precision': 'float16'})."
)

_AT_ONCE = 4
"""Pictures drawn in one batch, as with scale=sdxl."""


class PortraitPipeline(DiffusionPipeline, LoraLoader):
    """A pipeline that draws portraits with the framework's own model and sampler.

    UNet, text encoders and autoencoder are the backbone's, of diffusers' and transformers' classes,
    so that diffusers' `load_lora_weights`, `set_adapters` and `unload_lora_weights` work on them.

    model and encoder must be on one device. select: chooses the reference that gives the shape.
    matting: segments the person in a photo. sampler: its class and settings, which a call may
    change; None uses DDIM with its defaults. minimum_side: edge in pixels of the smallest accepted
    portrait. refs: the maximum number of references in training; None if unknown.
    """

    def __init__(
        self,
        model: PortraitModel,
        encoder: FaceEncoder,
        select: Selection,
        matting: Matting,
        sampler: Mapping[str, Any] | None = None,
        minimum_side: int = 32,
        refs: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(model=model, encoder=encoder, select=select, matting=matting)
        own = {"_target_": "portraitlab.method.sampler.ddim.DDIM"}
        self.register_to_config(sampler=dict(sampler or own), minimum_side=minimum_side, refs=refs)
        self._offload: tuple[torch.device, Mode] | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        backbone_folder: str | Path | None = None,
        device: str | torch.device = "cpu",
        settings: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Self:
        """Load a folder that `portraitlab export` wrote; nothing is downloaded.

        backbone_folder: the base, or another checkpoint of the same base, in diffusers' layout;
        None uses the run's base. settings: changes by dotted name, such as
        {"encoder.root": "packs"}. Raises ValueError where the folder is not an export or damaged,
        for unknown or missing settings, for missing weights, for a base of another form, and for
        options of diffusers that this pipeline does not have.
        """
        # Read and change the settings.
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: a PortraitPipeline is loaded with backbone_folder, device "
                f"and settings alone. {_PRECISION}"
            )
        exported = read_export(Path(folder))
        chosen = with_changes(exported.settings, exported.needed, settings or {})
        exported.check_cond(chosen)
        if backbone_folder is not None:
            chosen["backbone"] = another_base(chosen["backbone"], Path(backbone_folder))
        if exported.controlnet is not None:
            start = {"_target_": "portraitlab.deploy.export.folder.read_controlnet"}
            chosen["net"] = {
                **chosen["net"], "start": {**start, "folder": str(exported.controlnet)}
            }  # fmt: skip

        # Build the components, and load the trained weights.
        config = OmegaConf.create(chosen)
        check_published(config, "sampler")
        with own_errors():
            backbone = instantiate(config.backbone)
            exported.check_base(backbone)
            encoder = instantiate(config.encoder)
            model = build_model(config, backbone, encoder).eval()
            select, matting = instantiate(config.select), instantiate(config.matting)
        exported.load_into(model)
        drawn = (chosen["sampler"], chosen["minimum_side"], chosen["refs"])
        return cls(model, encoder, select, matting, *drawn).to(device)

    def save_pretrained(self, *arguments: Any, **named: Any) -> None:
        """Raise ValueError, since a run is exported and an exported folder can be copied."""
        raise ValueError(
            "a PortraitPipeline is not saved; copy its folder, or run `portraitlab export RUN OUT`"
        )

    def to(
        self, device: str | torch.device | torch.dtype, dtype: torch.dtype | None = None
    ) -> Self:
        """Move all models to a device, and draw on it; ends offload.

        Raises ValueError for a precision, which is a setting of the backbone (backbone.precision).
        """
        if dtype is not None or isinstance(device, torch.dtype):
            raise ValueError(f"a PortraitPipeline is moved to a device, not cast. {_PRECISION}")
        self.model.to(device)
        self.encoder.to(device)
        self._offload = None
        return self

    def enable_model_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Draw with only the computing part of the model on the GPU; the encoder stays on the CPU.

        Text encoders, autoencoder, fusion, and net with UNet alternate (deploy/offload.py).

        device: None uses the accelerator that torch finds. gpu_id: its number. Raises ValueError
        where torch finds none, and where both arguments number the device.
        """
        self._offload_to(gpu_id, device, "model")

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Draw with only the computing layer on the GPU, which needs little memory but is slow."""
        self._offload_to(gpu_id, device, "sequential")

    def enable_vae_slicing(self) -> None:
        """Decode one picture at a time to save memory. Raises ValueError as _stock_vae does."""
        self._stock_vae().enable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode large pictures in tiles to save memory. Raises ValueError as _stock_vae does."""
        self._stock_vae().enable_tiling()

    def _stock_vae(self) -> AutoencoderKL:
        """Return diffusers' autoencoder. Raises ValueError for the miniature's."""
        if not isinstance(self.vae, AutoencoderKL):
            raise ValueError(
                "the miniature world's autoencoder is small, and decodes neither in slices nor in "
                "tiles; leave them out"
            )
        return self.vae

    def _offload_to(
        self, gpu_id: int | None, device: torch.device | str | None, mode: Mode
    ) -> None:
        chosen = accelerator(gpu_id, device)
        self.to("cpu")
        self._offload = chosen, mode

    @property
    def device(self) -> torch.device:
        """The device of the models; with offload the CPU, except while they compute."""
        device: torch.device = self.model.backbone.latent_scale.device
        return device

    @property
    def unet(self) -> UNet2DConditionModel:
        """The backbone's UNet."""
        return self.model.backbone.unet

    @property
    def vae(self) -> AutoencoderKL | nn.Module:
        """The backbone's autoencoder; the miniature world's is its own class."""
        autoencoder = self.model.backbone.autoencoder
        return autoencoder.autoencoder if isinstance(autoencoder, OwnPrecision) else autoencoder

    @property
    def text_encoder(self) -> CLIPTextModel:
        """The backbone's text encoder."""
        return self.model.backbone.text_encoder

    @property
    def text_encoder_2(self) -> CLIPTextModelWithProjection | None:
        """SDXL's second text encoder; None with other backbones."""
        return getattr(self.model.backbone, "text_encoder_2", None)

    def see(self, photo: DecodedPhoto | Image.Image) -> UsablePortrait:
        """Cut the portrait from a photo. Raises UnusablePhoto unless the photo has one face."""
        taken = photo if isinstance(photo, DecodedPhoto) else as_photo(photo)
        return usable_portrait(taken, self.encoder, self.matting, self.config.minimum_side)

    def read_control(self, folder: str | Path, image: Image.Image, scale: float = 1.0) -> Control:
        """Read a further ControlNet of the same base with diffusers' loader, and its image.

        image: the control image, cut to a square. Raises ValueError where the weights cannot be
        read, do not fit the base, or take no picture, or one of another size.
        """
        # Read the ControlNet and check that it fits the base.
        backbone = self.model.backbone
        controlnet = read_model(ControlNetModel, Path(folder))
        check_fit(controlnet, backbone, str(folder), "another base")
        if controlnet.config.conditioning_channels != 3:
            raise ValueError(
                f"{folder} reads a control image of {controlnet.config.conditioning_channels} "
                "channels, not a picture; give a ControlNet that reads one."
            )
        # Each width but the first halves the picture's side.
        given = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
        needed = backbone.image_size // backbone.latent_size
        if given != needed:
            raise ValueError(
                f"{folder} divides the control image's side by {given}, and the base's autoencoder "
                f"by {needed}; give a ControlNet trained with it, or another base."
            )

        # Fit the image to the base.
        controlnet = products_in(controlnet.requires_grad_(False), backbone.precision)
        pixels = self._fitted(image)[None].to(self.device)
        return Control(controlnet.eval().to(self.device), pixels, scale)

    def _fitted(self, image: Image.Image) -> Tensor:
        """Cut an image to the base's square: [3, H, H] in [0, 1]."""
        size = (self.model.backbone.image_size,) * 2
        fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
        return functional.to_tensor(fitted)

    @torch.no_grad()
    def __call__(
        self,
        references: Picture | Sequence[Picture],
        target: Picture | None = None,
        prompt: str = "a photo of a person",
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        num_images: int = 1,
        controls: Sequence[Control] = (),
    ) -> list[Image.Image]:
        """Draw new portraits of the person in the references, one a seed: seed, seed + 1, …

        target: gives expression and pose, and of a run with net=in_context the style, with light
        and surroundings; None uses the first reference. steps and guidance: None
        uses the values of the run's scoring. controls: further ControlNets, see read_control.
        Logs a warning for the part of a prompt that is cut, for too many references, and for
        references that hardly show the same person. Raises ValueError for an unusable picture, for
        numbers out of range and for several prompts.
        """
        # Describe references and target.
        if isinstance(references, Picture):
            references = [references]
        if not references:
            raise ValueError("There is no reference: give one photo of the person, or more.")
        sampler = self._sampler(prompt, negative_prompt, steps, guidance, seed, num_images)
        self._warn_of_many(references)
        portraits = self._portraits(references)
        target = portraits[0] if target is None else self._portrait(target, "the target")
        sample = self._gathered(portraits, target, prompt, seed)
        return self._drawn(sample, sampler, seed, num_images, controls)

    @torch.no_grad()
    def group(
        self,
        people: Sequence[GroupMember],
        skeleton: Image.Image | None = None,
        prompt: str = "a photo of a group of people",
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        num_images: int = 1,
        controls: Sequence[Control] = (),
    ) -> list[Image.Image]:
        """Draw new pictures of several people, each with their face at a place, one a seed.

        skeleton: the picture of their skeletons, for a run that reads one; of other runs the
        control image shows each face as in the person's first reference, moved to its place. The
        other arguments are those of a call. Raises ValueError as a call does, for a place outside
        the picture, and without a skeleton where one is read.
        """
        places = [person.at for person in people]
        check_boxes(places)
        warn_of_overlap(places)
        if not people or not all(person.references for person in people):
            raise ValueError("There is no reference: give each person one photo or more.")
        if self.model.cond.body and skeleton is None:
            raise ValueError(
                "This run's control image is a skeleton; give the picture of one (--skeleton)."
            )
        sampler = self._sampler(prompt, negative_prompt, steps, guidance, seed, num_images)
        samples = []
        for number, person in enumerate(people, start=1):
            self._warn_of_many(person.references)
            portraits = self._portraits(person.references, f"person {number}, ")
            samples.append(self._gathered(portraits, portraits[0], prompt, seed))
        sample = together(samples, places)
        if skeleton is not None:
            image = 2 * self._fitted(skeleton)[None].to(self.device) - 1
            with self._computing(self.model):
                sample = replace(sample, drawing=self.model.as_read(image).cpu())
        return self._drawn(sample, sampler, seed, num_images, controls)

    def _sampler(
        self,
        prompt: str,
        negative_prompt: str,
        steps: int | None,
        guidance: float | None,
        seed: int,
        num_images: int,
    ) -> Sampler:
        """Check the arguments of a drawing, and build its sampler."""
        for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            if not isinstance(text, str):
                raise ValueError(
                    f"{name}={text!r} must be one string; call once for each prompt. num_images "
                    "draws several pictures of one prompt."
                )
        check_whole("num_images", num_images)
        check_whole("seed", seed, 0, 2**32 - num_images)
        changes = {"steps": steps, "guidance": guidance, "negative_prompt": negative_prompt}
        given = {name: value for name, value in changes.items() if value is not None}
        with own_errors():
            sampler: Sampler = instantiate(OmegaConf.create(dict(self.config.sampler)), **given)

        # Warn about arguments that have no effect or a bad one.
        for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
            if cut := self.model.backbone.tokenizer.cut(text):
                _log.warning("the %s is too long for the base; it is drawn without %r", name, cut)
        if negative_prompt and sampler.guidance == 1:
            _log.warning(
                "the negative prompt is not read: guidance=1 turns guidance off; give another"
            )
        return sampler

    def _warn_of_many(self, references: Sequence[Picture]) -> None:
        most = self.config.refs
        if most is not None and len(references) > most:
            _log.warning(
                "%d references are given, and the run was trained with %d at most; fewer may draw "
                "better", len(references), most,
            )  # fmt: skip

    def _portraits(self, references: Sequence[Picture], whose: str = "") -> list[UsablePortrait]:
        return [
            self._portrait(picture, f"{whose}reference {number}")
            for number, picture in enumerate(references, start=1)
        ]

    def _drawn(
        self,
        sample: Batch,
        sampler: Sampler,
        seed: int,
        num_images: int,
        controls: Sequence[Control],
    ) -> list[Image.Image]:
        """Draw pictures of a batch [1] on the CPU, _AT_ONCE at a time."""
        model = self.model
        if controls:
            net = WithControls(model.net, controls)
            model = PortraitModel(
                model.backbone, model.fusion, model.cond, net, model.transform
            ).eval()
        images: list[Image.Image] = []
        seeds = range(seed, seed + num_images)
        with sampler.ready(model.backbone):
            model = model.for_drawing()
            with self._computing(model):
                while len(images) < num_images:
                    part = seeds[len(images) : len(images) + _AT_ONCE]
                    batch = Batch.cat([sample] * len(part)).to(self.device)
                    images += [to_image(each) for each in sampler.sample(model, batch, part)]
        return images

    def _gathered(
        self, references: Sequence[UsablePortrait], target: UsablePortrait, prompt: str, seed: int
    ) -> Batch:
        """Gather a batch [1] on the CPU."""
        own = self.model, self.encoder, self.select
        return gather(*own, references, target, prompt, seed, self._computing(self.model))

    def _computing(self, model: PortraitModel) -> AbstractContextManager[None]:
        """Let the model compute on its device, or on the device of offload, inside `with`."""
        return nullcontext() if self._offload is None else offloaded(model, *self._offload)

    def _portrait(self, picture: Picture, name: str) -> UsablePortrait:
        """Cut the portrait from a picture. Raises UnusablePhoto with the picture's name."""
        if isinstance(picture, UsablePortrait):
            return picture
        try:
            return self.see(picture)
        except UnusablePhoto as error:
            raise UnusablePhoto(f"{name} {error}; give another photo.") from error
