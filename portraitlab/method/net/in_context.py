"""The appearance net: a branch that reads two pictures side by side (IC-Portrait, Sec. 3.3)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import ControlNetModel
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.encoder_features import features_of
from portraitlab.diffusion.image_prompt import ImagePrompt
from portraitlab.method.matching import aggregate, annealed_weights, best_match
from portraitlab.method.net.control_branch import ControlBranch
from portraitlab.method.net.stock import check_fit
from portraitlab.support.hub import read_model
from portraitlab.types import Batch, Condition, Injection, TextFeatures


class InContext(ControlBranch):
    """A ControlNet of the sampled style picture beside the profile, prompted by the profile.

    In-context: noisy latents and control image show two pictures side by side, so that the
    self-attention of UNet and branch reads the profile wherever it draws the portrait. The UNet and
    the branch read the profile's CLIP embedding in place of the text; it is zero for samples
    without a prompt, and in guidance's unconditional prediction.

    matching: a net of the same kind after about 200 steps, which is frozen. Its features at the
    present noise level match the two pictures (eqs. 5 and 6), and the profile's residuals are
    warped to the portrait and added to it by falling weights (eq. 7). None adds nothing (the
    paper's "w/o annealing"). layer: the output of the matching net's encoder that is compared,
    counted from the first convolution; the paper compares "an intermediate layer". slope and base:
    alpha and beta of eq. 7.
    trusted: least mean cosine of a sample's matches; below it, nothing is added to the sample, and
    drawing warns.

    image_prompt: encodes the profile. start: see ControlBranch.

    Raises ValueError without a control image or for a layer that the matching net does not have,
    and as ControlBranch does.
    """

    wants: ClassVar[tuple[str, ...]] = ("pictures",)
    side_by_side = True

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        image_prompt: ImagePrompt,
        matching: ControlNetModel | None = None,
        layer: int = 3,
        slope: float = 1.0,
        base: float = 0.2,
        trusted: float = 0.0,
        start: ControlNetModel | None = None,
    ) -> None:
        if not control:
            raise ValueError(
                "net=in_context reads the style picture, and cond=none draws nothing; choose "
                "cond=style."
            )
        super().__init__(backbone, control, "text", "pixels", noise_gate=None, start=start)
        self.image_prompt = image_prompt
        self.matching = None if matching is None else self._frozen(matching, backbone, layer)
        self.layer = layer
        self.slope, self.base = slope, base
        self.trusted = trusted

    def _frozen(self, matching: ControlNetModel, backbone: Backbone, layer: int) -> ControlNetModel:
        check_fit(matching, backbone, "net.matching", "net.matching=null for none")
        return features_of(matching, layer).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> InContext:
        """Keep the frozen parts in evaluation mode."""
        super().train(mode)
        if self.matching is not None:
            self.matching.eval()
        return self

    def read_prompt(self, batch: Batch) -> TextFeatures:
        """Encode the profiles as the prompt [B]; zero where it is dropped."""
        assert batch.pictures is not None, "named by `wants`"
        words = self.image_prompt(batch.pictures.profile)
        return replace(batch.text, words=words * batch.pictures.prompted[:, None, None])

    def read_empty_prompt(self, backbone: Backbone, negative_prompt: str) -> TextFeatures:
        """Return zeros as the prompt [1]; there is no negative text."""
        words = backbone.latent_scale.new_zeros(1, self.image_prompt.words, backbone.text_dim)
        return replace(backbone.encode_text([""]), words=words)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute residuals for noisy latents [B, c, h, 2·w], with the profile's warped in."""
        injection = super().forward(noisy, timesteps, condition)
        if self.matching is None or injection.down is None or injection.mid is None:
            return injection
        places, sure = self.match(self.matching, noisy, timesteps, condition)
        residuals = [*injection.down, injection.mid]
        weights = annealed_weights(len(injection.down), self.slope, self.base)
        trusted = sure >= self.trusted
        if not self.training and not trusted.all():
            warnings.warn(
                f"some profile's matches have a mean cosine below net.trusted={self.trusted}, so "
                "its portrait is drawn without them at these noise levels; give a profile of a "
                "nearer view",
                stacklevel=2,
            )
        *down, mid = aggregate(residuals, places, weights, trusted=trusted)
        return replace(injection, down=tuple(down), mid=mid)

    @torch.no_grad()
    def match(
        self,
        matching: ControlNetModel,
        noisy: Tensor,
        timesteps: Tensor,
        condition: Condition,
    ) -> tuple[Tensor, Tensor]:
        """Find each cell of the left picture in the right one (eqs. 5 and 6).

        matching: a result of `features_of`. Returns places [B, h', w', 2] in the right picture, x
        and y in its fractions, and the mean cosine of the matches [B].
        """
        left, right = self.descriptors(matching, noisy, timesteps, condition)
        found = best_match(left.float(), right.float())
        return found.places, found.confidence.mean(dim=(1, 2))

    @torch.no_grad()
    def descriptors(
        self,
        matching: ControlNetModel,
        noisy: Tensor,
        timesteps: Tensor,
        condition: Condition,
    ) -> tuple[Tensor, Tensor]:
        """Return features [B, C, h', w'] of the left and of the right picture."""
        read, beside = self._images(noisy, condition.drawing)
        down, mid = matching(
            read,
            timesteps,
            encoder_hidden_states=condition.text.words,
            controlnet_cond=beside,
            return_dict=False,
        )
        left, right = (*down, mid)[self.layer].chunk(2, dim=-1)
        return left, right


def read_matching_net(root: str) -> ControlNetModel:
    """Read a matching net from the controlnet folder of an exported run."""
    return read_model(ControlNetModel, Path(root))
