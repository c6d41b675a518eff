"""The base class of nets, which compute the injection into the frozen backbone."""

from __future__ import annotations

from typing import ClassVar

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import (
    Batch,
    Condition,
    FaceFeatures,
    Injection,
    ReferenceMaps,
    TextFeatures,
)


class Net(nn.Module):
    """The trained path into the backbone.

    control and identity: True where it reads a control image and identity tokens; pixels: True
    where it reads the control image's pixels instead of its latents; latents: True where it reads
    the references' latents. Inputs that a net does not read are neither computed nor trained
    (PortraitModel) nor gathered (PhotoSet). Given a condition without any of its inputs, a net
    injects nothing, so that guidance has the backbone alone. A net's frozen parameters require no
    gradient and are not saved with a run.

    stock_part: name of the submodule that converts to diffusers' own ControlNetModel by `stock`
    and back by `load_stock`; None where there is none.
    merges: True where for_drawing merges trained weights into the backbone's UNet.
    wants: optional fields of Batch that it reads. side_by_side: True where it reads the profile
    beside the target, so that it needs a transform of this kind.
    """

    wants: ClassVar[tuple[str, ...]] = ()
    side_by_side: bool = False
    stock_part: str | None = None
    merges: bool = False

    def __init__(
        self, control: bool, identity: bool, latents: bool = False, pixels: bool = False
    ) -> None:
        super().__init__()
        self.control = control
        self.identity = identity
        self.latents = latents
        self.pixels = pixels

    @staticmethod
    def check_identity(net: str, identity: bool, instead: str = "net=none") -> None:
        """Check that a net that needs identity tokens has them.

        Raises ValueError with fusion=none, which recommends `instead` for it.
        """
        if not identity:
            raise ValueError(
                f"net={net} has no identity tokens to read with fusion=none; choose a fusion or "
                f"{instead}."
            )

    def read(self, references: FaceFeatures) -> ReferenceMaps:
        """Encode the references' latents, once for all noise levels.

        Only called for nets with `latents`, which must implement it.
        """
        raise NotImplementedError

    def read_prompt(self, batch: Batch) -> TextFeatures:
        """Return the UNet's text features [B]; by default those of the prompt."""
        return batch.text

    def read_empty_prompt(self, backbone: Backbone, negative_prompt: str) -> TextFeatures:
        """Return the prompt [1] of guidance's unconditional prediction."""
        return backbone.encode_text([negative_prompt])

    def read_drawing(self, drawing: Tensor) -> Tensor:
        """Encode the control image, once for all noise levels; by default it is left as it is."""
        return drawing

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute the injection for noisy latents [B, c, h, w] at timesteps [B]."""
        raise NotImplementedError

    def with_unet(self, unet: UNet2DConditionModel) -> Net:
        """Return the net that steers another UNet of the same architecture, with the same weights.

        A net itself by default; one that runs a UNet of its own must implement it.
        """
        return self

    def running_unet(self, backbone: Backbone) -> UNet2DConditionModel:
        """Return the UNet that runs under a condition: the backbone's by default."""
        return backbone.unet

    def for_drawing(self, backbone: Backbone) -> Net:
        """Return the net as it draws: itself by default, or merged with its present weights."""
        return self

    def merged_unet(self, backbone: Backbone) -> UNet2DConditionModel:
        """Merge the trained weights into a plain UNet of diffusers.

        Only called for nets with `merges`, which must implement it and for_drawing.
        """
        raise NotImplementedError

    def stock(self) -> ControlNetModel:
        """Convert the stock part to diffusers' own class, with the same weights.

        Only called for nets with a `stock_part`, which must implement it and load_stock.
        """
        raise NotImplementedError

    def load_stock(self, stock: ControlNetModel) -> None:
        """Load the weights of a result of `stock`. Raises ValueError for another architecture."""
        raise NotImplementedError

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return trained parameters that start at zero; they may have their own learning rate."""
        return []
