"""What every net gives: the injection into the frozen backbone."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.types import Condition, Injection


class Net(nn.Module):
    """The trained path into the backbone.

    control and identity: whether it reads control latents and identity tokens. What a net does not
    read is neither computed nor trained (PortraitModel). A net built for them that is given a
    condition with neither injects nothing: that is the backbone alone, for guidance.
    """

    def __init__(self, control: bool, identity: bool) -> None:
        super().__init__()
        self.control = control
        self.identity = identity

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Injection for noisy latents [B, c, h, w] at timesteps [B]."""
        raise NotImplementedError

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Trained parameters that start at zero, which may have a learning rate of their own."""
        return []
