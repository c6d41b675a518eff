"""Nets that starts are trained for: a branch beside the UNet, and attention in the UNet."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.types import Condition, IdentityTokens, TextFeatures
from portraitlab.world.models.controlnet import TraitTokens, grow_from
from portraitlab.world.pretrained import load_controlnet
from portraitlab.world.traits import TRAITS_SIZE

READS_TOKENS = re.compile(r"attn2\.to_[kv]\.")
"""Pattern of a branch's weights that compute keys and values of tokens."""


class WayIn(nn.Module):
    """A net under training, and its trait tokens, which are discarded afterwards.

    name: the value of --which. weights: name of the shipped part in foundation.json. reads: shares
    of the batches in which it reads tokens of traits, a description in their place, or both.
    """

    name: str
    weights: str
    reads: ClassVar[dict[str, float]]

    def __init__(self, net: Net, backbone: Backbone) -> None:
        super().__init__()
        self.net = net
        self.traits = TraitTokens(TRAITS_SIZE, backbone.text_dim)

    def condition(
        self,
        prompts: TextFeatures,
        tokens: IdentityTokens | None,
        words: TextFeatures | None,
        drawing: Tensor | None,
    ) -> Condition:
        """Assemble the net's condition.

        prompts: prompts of the UNet. tokens: trait tokens; words: words of a description; at least
        one of both is given. drawing: latents of the control image, None for no control image.
        """
        raise NotImplementedError

    def start(self) -> nn.Module:
        """Return the part that is shipped."""
        raise NotImplementedError


class Branch(WayIn):
    """HiFi-Net: a copy of the UNet's encoder, with a control image, and tokens, text or both."""

    name, weights = "branch", "controlnet"
    reads: ClassVar = {"tokens": 0.8, "words": 0.1, "both": 0.1}
    net: HiFiNet

    def __init__(self, backbone: Backbone, from_shipped: bool = False) -> None:
        """Build the branch.

        from_shipped: start from the package's weights, but for those that read tokens: they were
        trained on other trait tokens, whose embeddings are not shipped.
        """
        start = grow_from(backbone.unet)
        if from_shipped:
            shipped = load_controlnet().state_dict()
            own = start.state_dict()
            fresh = {name: value for name, value in own.items() if READS_TOKENS.search(name)}
            start.load_state_dict(shipped | fresh)
        net = HiFiNet(backbone, True, True, reads_noise=False, noise_gate=1.0, start=start)
        super().__init__(net, backbone)

    def condition(
        self,
        prompts: TextFeatures,
        tokens: IdentityTokens | None,
        words: TextFeatures | None,
        drawing: Tensor | None,
    ) -> Condition:
        """Assemble the net's condition; words come before the tokens if both are given."""
        if words is None:
            return Condition(prompts, tokens, drawing)
        if tokens is not None:
            tokens = tokens.after(words.words)
        return Condition(words, tokens, drawing)

    def start(self) -> nn.Module:
        """Return the ControlNet."""
        return self.net.controlnet


class Attention(WayIn):
    """IP-Adapter's attention in the UNet, which reads tokens beside the text.

    The package's frozen ControlNet reads the control images and the prompt, as in net=adapter.
    """

    name, weights = "attention", "attention_start"
    reads: ClassVar = {"tokens": 1.0}
    net: Adapter

    def __init__(self, backbone: Backbone) -> None:
        net = Adapter(backbone, True, True, noise_gate=1.0, controlnet=load_controlnet())
        super().__init__(net, backbone)

    def condition(
        self,
        prompts: TextFeatures,
        tokens: IdentityTokens | None,
        words: TextFeatures | None,
        drawing: Tensor | None,
    ) -> Condition:
        """Assemble the net's condition; the frozen ControlNet is given the UNet's prompts."""
        assert words is None, "its words are the prompt's"
        return Condition(prompts, tokens, drawing)

    def start(self) -> nn.Module:
        """Return keys and values, under the adapter's names."""
        part = nn.Module()
        part.keys, part.values = self.net.keys, self.net.values
        return part


WAYS: dict[str, Callable[[Backbone], WayIn]] = {way.name: way for way in (Branch, Attention)}
