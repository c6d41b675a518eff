"""DreamBooth: train the UNet on a few photos of one person (Ruiz et al., CVPR 2023)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from portraitlab.method.customise.base import Customisation
from portraitlab.method.model import PortraitModel
from portraitlab.support.checks import check_number, check_whole
from portraitlab.types import Batch


class DreamBooth(Customisation):
    """Train a copy of the UNet on a person's references, one photo a step.

    The loss is the UNet's own on the noised photo, under one prompt for all photos. Since each
    person has a copy, no rare word names the person and no loss preserves the class, whom this copy
    never draws: the word "person" becomes this one. A net that reads pictures side by side trains
    with it, on the profile as target and style (IC-Portrait, Sec. 4, "customization phase").

    steps, learning_rate: settings of Adam; IC-Portrait has 2e-6. prompt: prompt of the photos.
    seed: seed of noise and noise levels. trains: regular expression of the names of the trained
    weights; all by default.

    Raises ValueError for settings out of range.
    """

    trains: ClassVar[str] = ""

    def __init__(
        self,
        steps: int,
        learning_rate: float,
        prompt: str = "a photo of a person",
        seed: int = 0,
    ) -> None:
        self.steps = check_whole("customise.steps", steps)
        check_number("customise.learning_rate", learning_rate, above=0)
        self.learning_rate = learning_rate
        self.prompt = prompt
        self.seed = seed

    def __call__(self, model: PortraitModel, batch: Batch) -> PortraitModel:
        """Train for the person of a sample [1].

        Raises ValueError for a picture of several people, and where a control image shows the face,
        since a sample has no landmarks of its references.
        """
        if batch.regions is not None:
            raise ValueError("customise trains for one person; score portraits, or customise=none.")
        if model.net.control and not model.transform.side_by_side:
            raise ValueError(
                "customise trains on photos whose control image is not known; choose cond=none."
            )
        # Leave inference mode, whose tensors have no gradient.
        with torch.inference_mode(False), torch.enable_grad():
            unet = self._copied(model.backbone.unet)
            own = model.with_unet(unet)
            given = batch.changed(torch.clone)
            weights = [weight for weight in unet.parameters() if weight.requires_grad]
            optimiser = torch.optim.Adam(weights, self.learning_rate)
            generator = torch.Generator().manual_seed(self.seed)
            photos = list(self._photos(own, given))
            for step in range(self.steps):
                optimiser.zero_grad()
                self._loss(own, photos[step % len(photos)], step, generator).backward()
                optimiser.step()
                # An outer autocast would keep using weights that it cast before the step.
                torch.clear_autocast_cache()
            unet.requires_grad_(False)
        return own

    def _copied(self, unet: UNet2DConditionModel) -> UNet2DConditionModel:
        """Copy the UNet in single precision, with a gradient of what is trained."""
        copied = deepcopy(unet).float().requires_grad_(False)
        for name, weight in copied.named_parameters():
            weight.requires_grad_(re.search(self.trains, name) is not None)
        return copied

    def _photos(self, model: PortraitModel, batch: Batch) -> Iterator[Batch]:
        """Yield the person's photos, each as the target [1] of a batch."""
        if model.transform.side_by_side:
            assert batch.pictures is not None, "named by `wants`"
            profile = batch.pictures.profile
            pictures = replace(batch.pictures, style=profile)
            yield replace(batch, latents=batch.pictures.latents, pictures=pictures)
            return
        references = batch.references
        assert references.latents is not None, "gathered where something customises"
        text = model.backbone.encode_text([self.prompt])
        for place in references.mask[0].nonzero().flatten().tolist():
            yield replace(batch, latents=references.latents[:, place], text=text)

    def _loss(
        self, model: PortraitModel, photo: Batch, step: int, generator: torch.Generator
    ) -> Tensor:
        """Compute the mean squared error of the prediction at a random noise level."""
        backbone = model.backbone
        if photo.pictures is not None:  # other pixels of the style in every step
            seed = torch.full_like(photo.pictures.seed, step)
            photo = replace(photo, pictures=replace(photo.pictures, seed=seed))
        laid = model.transform.lay_out(model.with_drawing(photo))
        noise = torch.randn(laid.latents.shape, generator=generator).to(laid.latents)
        timesteps = torch.randint(backbone.timesteps, (1,), generator=generator).to(noise.device)
        with backbone.computing():
            prediction = model(laid, backbone.add_noise(laid.latents, noise, timesteps), timesteps)
        wanted = backbone.training_target(laid.latents, noise, timesteps)
        return functional.mse_loss(prediction.float(), wanted.float())
