"""What every net gives: the injection into the frozen backbone."""

from __future__ import annotations

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.types import Condition, FaceFeatures, Injection, ReferenceMaps


class Net(nn.Module):
    """The trained path into the backbone.

    control and identity: whether it reads a control image and identity tokens; pixels: whether it
    reads the control image itself and not its latents; latents: whether it reads the references'
    own. What a net does not read is neither computed nor trained
    (PortraitModel) nor gathered (PhotoSet). A net built for them that is given a condition with
    none of them injects nothing: that is the backbone alone, for guidance. What a net holds that
    is not trained requires no gradient, and is not saved with a run.

    stock_part: the name of the part that diffusers' own ControlNetModel can hold, which `stock`
    gives and `load_stock` takes; None where there is none.
    """

    stock_part: str | None = None

    def __init__(
        self, control: bool, identity: bool, latents: bool = False, pixels: bool = False
    ) -> None:
        super().__init__()
        self.control = control
        self.identity = identity
        self.latents = latents
        self.pixels = pixels

    def read(self, references: FaceFeatures) -> ReferenceMaps:
        """What it makes of the references' latents, the same at every noise level.

        Asked once a drawing, of nets with `latents` alone, which must say it.
        """
        raise NotImplementedError

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Injection for noisy latents [B, c, h, w] at timesteps [B]."""
        raise NotImplementedError

    def stock(self) -> ControlNetModel:
        """The stock part as diffusers' own class has it, with the same weights.

        Asked of nets with a `stock_part` alone, which must say it, as of load_stock.
        """
        raise NotImplementedError

    def load_stock(self, stock: ControlNetModel) -> None:
        """Take the weights of what `stock` gave. Raises ValueError where it is of another form."""
        raise NotImplementedError

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Trained parameters that start at zero, which may have a learning rate of their own."""
        return []
