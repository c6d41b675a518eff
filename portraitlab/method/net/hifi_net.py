"""HiFi-Net: a ControlNet that reads landmarks and several faces (HiFi-Portrait, appendix B)."""

from __future__ import annotations

from diffusers import ControlNetModel

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch, Reads


class HiFiNet(ControlBranch):
    """A branch that reads the control image's latents z_lmk and identity tokens.

    It differs from ControlNet (Zhang et al., 2023) in two ways: the control image enters as
    latents, and cross-attention reads the identity tokens of all references instead of the prompt.
    With fusion=none it reads the prompt.

    reads_noise: True adds z_lmk to the copy's features of the noisy latents, as ControlNet does.
    False reads z_lmk in place of the noisy latents, so that the queries of cross-attention depend
    on z_lmk alone, as in eq. 5. noise_gate and start: see ControlBranch.

    Raises ValueError where neither control nor identity is given, and as ControlBranch does.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        reads_noise: bool = True,
        noise_gate: float = 0.0,
        start: ControlNetModel | None = None,
    ) -> None:
        if not control and not identity:
            raise ValueError(
                "net=hifi_net has nothing to read with fusion=none and cond=none; "
                "choose a fusion or a cond, or net=none for the backbone alone."
            )
        reads: Reads = "tokens" if identity else "text"
        super().__init__(backbone, control, reads, "latents", reads_noise, noise_gate, start)
