"""Features of a ControlNet's encoder, up to one of its layers."""

from __future__ import annotations

from copy import copy

from diffusers import ControlNetModel
from torch import nn

from portraitlab.support.checks import check_whole


def features_of(controlnet: ControlNetModel, layer: int) -> ControlNetModel:
    """Return a ControlNet whose outputs are its encoder's features, before the zero convolutions.

    It ends with the block that computes the output `layer`, counted from the first convolution on,
    the middle block last. Its parts are shared with the given one.

    Raises ValueError for a layer that the ControlNet does not have.
    """
    down = len(controlnet.controlnet_down_blocks)
    last = down if controlnet.mid_block is not None else down - 1
    check_whole("net.layer", layer, 0, last, "; the matching net has these outputs")
    # Keep the blocks up to the layer; the first convolution has an output of its own.
    blocks = nn.ModuleList()
    outputs = 1
    for block in controlnet.down_blocks:
        if outputs > layer:
            break
        blocks.append(block)
        outputs += len(block.resnets) + len(block.downsamplers or ())
    features = copy(controlnet)
    features._modules = {
        **controlnet._modules,
        "down_blocks": blocks,
        "mid_block": controlnet.mid_block if layer == down else None,
        "controlnet_down_blocks": nn.ModuleList(nn.Identity() for _ in range(outputs)),
        "controlnet_mid_block": nn.Identity(),
    }
    return features
