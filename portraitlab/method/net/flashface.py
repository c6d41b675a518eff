"""FlashFace: the UNet's decoder attends to the references' feature maps (Zhang et al., 2024)."""

from __future__ import annotations

from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.fusion.base import flatten_references
from portraitlab.method.net.base import Net
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.method.net.reference import ReferenceAttention, ReferenceNet, WithReferences
from portraitlab.types import Condition, FaceFeatures, IdentityTokens, Injection, ReferenceMaps


class FlashFace(Net):
    """A reference net beside the UNet, and reference attention in its middle and decoder.

    A decoder block reads the maps of the encoder block that it mirrors, which has its resolution
    and width; the middle block reads the middle's. Identity tokens are not read, whatever the
    fusion. noise_gate: power of the NoiseGate that multiplies the added attention; 0 disables the
    gate. controlnet: reads the control image where there is one, and is frozen (FrozenControl).

    Raises ValueError for a negative noise_gate, and with control but without a controlnet.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        noise_gate: float = 0.0,
        controlnet: ControlNetModel | None = None,
    ) -> None:
        super().__init__(control, identity=False, latents=True)
        self.gate = NoiseGate(backbone, noise_gate)
        self.frozen_control = FrozenControl("flashface", backbone, control, controlnet)
        # Copy the encoder before reference attention is added to the UNet's middle.
        self.reference_net = ReferenceNet(backbone)
        # Add reference attention to the self-attentions of middle and decoder.
        self.attentions = nn.ModuleList()
        self.maps: list[int] = []
        unet = backbone.unet
        processors = unet.attn_processors
        for name, own in processors.items():
            block, _, rest = name.partition(".")
            if block in ("mid_block", "up_blocks") and name.endswith("attn1.processor"):
                added = ReferenceAttention(unet.get_submodule(name.removesuffix(".processor")))
                processors[name] = WithReferences(own, added, place=len(self.attentions))
                self.attentions.append(added)
                last = len(unet.down_blocks)
                mirrored = last if block == "mid_block" else last - 1 - int(rest.split(".")[0])
                self.maps.append(mirrored)
        unet.set_attn_processor(processors)

    def read(self, references: FaceFeatures) -> ReferenceMaps:
        """Compute the maps that each reference attention reads, masked as their reference."""
        assert references.latents is not None, "a PhotoSet gathers what the net reads"
        mask = references.mask
        # Each unmasked reference of any sample is one photo of a batch.
        maps = self.reference_net(references.latents[mask])
        layers = [self._spread(each, mask) for each in maps]
        return ReferenceMaps(tuple(layers[place] for place in self.maps))

    @staticmethod
    def _spread(maps: Tensor, mask: Tensor) -> IdentityTokens:
        """Scatter maps [R, T, C] of the unmasked references to their places in mask [B, N]."""
        spread = maps.new_zeros(*mask.shape, *maps.shape[1:])
        spread[mask] = maps
        return flatten_references(spread, mask)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject the references' maps, and residuals of the control image."""
        drawn = self.frozen_control(noisy, timesteps, condition)
        return replace(drawn, attention=condition.references, gate=self.gate(timesteps))

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the output projections of the reference attentions."""
        return [
            parameter for name, parameter in self.attentions.named_parameters() if ".out." in name
        ]
