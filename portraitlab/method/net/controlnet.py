"""The original ControlNet: a branch that reads a control image's pixels and the prompt."""

from __future__ import annotations

from diffusers import ControlNetModel
from diffusers.models.attention_processor import AttnProcessor2_0

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch


class ControlNet(ControlBranch):
    """ControlNet of Zhang et al. (2023), without identity tokens.

    FPGA compares its reparameterised net with this one (Sec. 3.3 and Table 5). start: a published
    ControlNet, trained with the backbone's UNet, to train further; None starts from a copy of the
    UNet's encoder.

    Raises ValueError without a control image, and for a start that does not fit the UNet.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        start: ControlNetModel | None = None,
    ) -> None:
        if not control:
            raise ValueError(
                "net=controlnet has nothing to read with cond=none; choose a cond, or net=none for "
                "the backbone alone."
            )
        super().__init__(backbone, True, "text", "pixels", noise_gate=None, start=start)
        # As published: diffusers' default attention, whatever the backbone's.
        self.controlnet.set_attn_processor(AttnProcessor2_0())
