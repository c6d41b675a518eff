"""No net: the frozen backbone and its prompt."""

from __future__ import annotations

from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.types import Condition, Injection


class NoNet(Net):
    """A net that reads and injects nothing, whatever fusion and cond."""

    def __init__(self, backbone: Backbone, control: bool, identity: bool) -> None:
        super().__init__(control=False, identity=False)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Return an empty injection."""
        return Injection()
