"""The Face Fidelity Reinforce Network: a ControlNet that reads a face's tokens (FaceSnap)."""

from __future__ import annotations

from diffusers import ControlNetModel

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch, WayIn


class FFRNet(ControlBranch):
    """A branch that reads landmarks and, instead of the prompt, the fused identity tokens.

    FaceSnap, Sec. 2.1: a ControlNet whose cross-attention is conditioned on the fused features
    alone, so that it attends to identity; the UNet alone reads the prompt. The paper's control
    image has 72 landmarks (cond=landmarks72); any other cond works too.

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
        self.check_identity("ffrnet", identity, "net=controlnet, which reads the prompt")
        super().__init__(backbone, control, "tokens", way_in, reads_noise, noise_gate, start)
