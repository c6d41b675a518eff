"""The complete conditional diffusion model in plain torch: backbone, fusion, cond and net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.base import Cond
from portraitlab.method.fusion.base import Fusion
from portraitlab.method.net.base import Net
from portraitlab.method.transform.base import Transform
from portraitlab.method.transform.none import NoTransform
from portraitlab.support.checks import check_finite
from portraitlab.support.precision import without_autocast
from portraitlab.support.weights import check_alike
from portraitlab.types import (
    Batch,
    Condition,
    FaceGeometry,
    IdentityTokens,
    Pictures,
    Regions,
)

_TRAINED = ("fusion.", "net.")


class PortraitModel(nn.Module):
    """A frozen backbone steered by a trained fusion and net (HiFi-Portrait, Fig. 3).

    transform: changes training batches before they are noised, and lays out what is drawn; None
    changes nothing.

    Raises ValueError where only one of net and transform works side by side.

    A fusion whose tokens the net does not read is frozen, so that exactly the trained parameters
    require a gradient.
    """

    def __init__(
        self,
        backbone: Backbone,
        fusion: Fusion,
        cond: Cond,
        net: Net,
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fusion = fusion if net.identity else fusion.requires_grad_(False)
        self.cond = cond
        self.net = net
        self.transform = NoTransform() if transform is None else transform
        if net.side_by_side != self.transform.side_by_side:
            raise ValueError(
                "net=in_context and transform=side_by_side need each other: the net reads the "
                "profile beside the portrait; choose both or neither."
            )

    @property
    def wants(self) -> frozenset[str]:
        """Optional fields of Batch that cond, net and transform read."""
        return frozenset((*self.cond.wants, *self.net.wants, *self.transform.wants))

    def control_image(
        self,
        shape_geometry: FaceGeometry,
        target_geometry: FaceGeometry,
        pictures: Pictures | None = None,
    ) -> Tensor | None:
        """Draw the control image [B, 3, H, W] in [-1, 1]; None where the net reads none.

        Also None without pictures where it is made of them.
        """
        if not self.net.control:
            return None
        if "pictures" in self.cond.wants:
            return None if pictures is None else self.cond.sample(pictures)
        size = self.backbone.image_size
        # Lines are drawn where the geometry says, which bfloat16 would round to half a pixel.
        with torch.no_grad(), without_autocast(target_geometry.keypoints.device):
            if target_geometry.score.dim() == 1:
                return self.cond(shape_geometry, target_geometry, size)
            # Draw each person alone, then all of a picture over each other.
            images = self.cond(shape_geometry.folded(), target_geometry.folded(), size)
            if images is None:
                return None
            there = target_geometry.score > 0
            apart = images.unflatten(0, there.shape)
            return apart.masked_fill(~there[..., None, None, None], -1.0).amax(dim=1)

    @property
    def draws_ahead(self) -> bool:
        """True where control images follow from geometry, so that they can be drawn before use."""
        return self.net.control and "pictures" not in self.cond.wants

    @property
    def drawing_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a control image in the form that the net reads."""
        backbone = self.backbone
        if self.net.pixels:
            return 3, backbone.image_size, backbone.image_size
        return backbone.latent_channels, backbone.latent_size, backbone.latent_size

    def drawing(
        self,
        shape_geometry: FaceGeometry,
        target_geometry: FaceGeometry,
        pictures: Pictures | None = None,
    ) -> Tensor | None:
        """Draw the control image in the form that the net reads, without a gradient.

        Returns its latents [B, c, h, w], or pixels [B, 3, H, W] for a net that reads pixels; None
        where control_image does.
        """
        image = self.control_image(shape_geometry, target_geometry, pictures)
        return None if image is None else self.as_read(image)

    def as_read(self, image: Tensor) -> Tensor:
        """Return control images [B, 3, H, W] in the form that the net reads, see `drawing`."""
        if self.net.pixels:
            return image
        with torch.no_grad():
            return self.backbone.encode(image)

    def with_drawing(self, batch: Batch) -> Batch:
        """Return the batch with its control image in the form that the net reads, if there is one.

        A control image that was drawn ahead is kept.
        """
        if batch.drawing is not None:
            return batch
        drawn = self.drawing(batch.shape_geometry, batch.target_geometry, batch.pictures)
        return replace(batch, drawing=drawn)

    def condition(self, batch: Batch) -> Condition:
        """Compute the condition, which is the same at all noise levels."""
        batch = self.with_drawing(batch)
        drawing = batch.drawing
        if drawing is not None:
            drawing = self.net.read_drawing(drawing)
        return Condition(
            text=self.net.read_prompt(batch),
            tokens=self._tokens(batch) if self.net.identity else None,
            drawing=drawing,
            references=self.net.read(batch.references) if self.net.latents else None,
        )

    def _tokens(self, batch: Batch) -> IdentityTokens | None:
        """Fuse the references of each person by themselves, and lay their tokens side by side."""
        if batch.regions is None:
            return self.fusion(batch.references)
        there = batch.references.mask.any(dim=-1)  # [B, P]
        fused = self.fusion(batch.references[there])
        if fused is None:
            return None
        tokens = fused.tokens.new_zeros(*there.shape, *fused.tokens.shape[1:])
        mask = fused.mask.new_zeros(*there.shape, fused.mask.shape[1])
        tokens[there], mask[there] = fused.tokens, fused.mask
        owner = torch.arange(there.shape[1], device=there.device).repeat_interleave(mask.shape[-1])
        # Where nobody is, a region must not take cells from those who are there.
        areas = batch.regions & there[..., None, None]
        regions = Regions(areas, owner.expand(len(there), -1))
        return IdentityTokens(tokens.flatten(1, 2), mask.flatten(1, 2), regions)

    def predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Predict with the steered backbone [B, c, h, w] for noisy latents at timesteps [B]."""
        injection = self.net(noisy, timesteps, condition)
        return self.backbone.predict(noisy, timesteps, condition.text, injection)

    def forward(self, batch: Batch, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Predict [B, c, h, w] for a batch's noisy latents."""
        return self.predict(noisy, timesteps, self.condition(batch))

    def with_unet(self, unet: UNet2DConditionModel) -> PortraitModel:
        """Return a model that steers another UNet of the same architecture; the rest is shared."""
        return self._with(backbone=self.backbone.with_unet(unet), net=self.net.with_unet(unet))

    def for_drawing(self) -> PortraitModel:
        """Return a model that draws with the present weights, merged where the net merges them.

        Make one for each drawing, with the LoRAs that it draws with: a merged net keeps the weights
        that it was made of. Any other net is shared.
        """
        return self._with(net=self.net.for_drawing(self.backbone))

    def for_faces(self) -> PortraitModel:
        """Return a model that restores a face by itself, by the condition of faces."""
        return self._with(cond=self.cond.of_faces())

    def _with(self, **parts: nn.Module) -> PortraitModel:
        """Return a model with other parts; the rest is shared."""
        other = copy(self)
        other._modules = {**self._modules, **parts}
        return other

    def enable_gradient_checkpointing(self, checkpoint: Callable[..., Any] | None = None) -> None:
        """Keep only the inputs of blocks, and recompute the rest in the backward pass.

        Chen et al. (2016): about a third more time for a fraction of the memory, and the same
        numbers. Applies to each part that has this method, as diffusers' models and fusions do: the
        UNet, copies of it, and the autoencoder, which then decodes one image at a time for the
        identity loss. The backward pass must use the same attention as the forward pass
        (quick_attention). checkpoint: calls a block with its inputs; None is torch's own.
        """
        for part in (part for child in self.children() for part in child.modules()):
            enable: Any = getattr(part, "enable_gradient_checkpointing", None)
            if enable is not None:
                enable(checkpoint)
            if isinstance(part, AutoencoderKL):
                part.enable_slicing()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to optimise; empty with net=none."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def trained_state_dict(self) -> dict[str, Tensor]:
        """Return the state of fusion and net, without their frozen parameters.

        The backbone, frozen parameters and the buffers of wholly frozen parts are not saved with a
        run: they are rebuilt identically.
        """
        named = self.named_parameters(remove_duplicate=False)  # a net may share the backbone's
        frozen = {name for name, each in named if not each.requires_grad}
        for place, part in self.named_modules():
            known = list(part.parameters())
            if known and not any(each.requires_grad for each in known):
                frozen |= {f"{place}.{name}" for name, _ in part.named_buffers()}
        return {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(_TRAINED) and name not in frozen
        }

    def load_trained_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of trained_state_dict.

        Raises ValueError where tensors are missing, unknown, of another shape or not finite.
        """
        what = "These weights are of another fusion or net"
        remedy = "choose the components they were trained with, or train them again with fresh=true"
        check_alike(self.trained_state_dict(), state, what, remedy)
        for name, value in state.items():
            check_finite(f"{name} of these weights", value)
        self.load_state_dict(state, strict=False)
