"""The net of multi-mode fusion: a ControlNet that reads prompt and identity apart (FPGA)."""

from __future__ import annotations

from diffusers import ControlNetModel

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch, WayIn


class MultiModeFusion(ControlBranch):
    """A branch whose cross-attentions to the prompt and to identity tokens are added.

    FPGA, Sec. 3.1: a ControlNet that starts from the UNet's weights, with eq. 1 in its
    cross-attention, CA(Q, F_text) + CA(Q, F_id). The control image shows landmarks or a skeleton.
    Of several people, each person's tokens act in that person's region alone (mask guided multi-ID
    cross-attention); outside all regions the branch reads the prompt.

    way_in: the paper's ControlNet reads pixels; latents let the branch start from a ControlNet that
    reads them. reads_noise, noise_gate and start: see ControlBranch.

    Raises ValueError without identity, and as ControlBranch does.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        way_in: WayIn = "pixels",
        reads_noise: bool = True,
        noise_gate: float = 0.0,
        start: ControlNetModel | None = None,
    ) -> None:
        self.check_identity("mmf", identity, "net=controlnet, which reads the prompt")
        super().__init__(backbone, control, "added", way_in, reads_noise, noise_gate, start)
