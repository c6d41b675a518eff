"""Convert nets to diffusers' own ControlNetModel, which other programs can load, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.support.weights import check_alike

_CONTROL = "controlnet_cond_embedding"
_FORM = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim")


def as_stock(controlnet: ControlNetModel, input_convolution: str | None) -> ControlNetModel:
    """Convert a ControlNet whose control image enters as latents to diffusers' own control path.

    input_convolution: name of the convolution that reads the control image, `conv_in` where it
    replaces the noisy latents; None without a control image. diffusers has two convolutions with a
    SiLU between them, and its conv_in always reads the noisy latents. Two convolutions can express
    one, since SiLU(a) - SiLU(-a) = a: the first gives the latents and their negatives, the second
    weighs both. Where the noisy latents are not read, conv_in's weights are zero.
    """
    # Take the weights of the input convolution.
    state = dict(controlnet.state_dict())
    like = state["conv_in.weight"]
    channels = like.shape[1]
    weight, bias = torch.zeros_like(like), torch.zeros_like(state["conv_in.bias"])
    if input_convolution is not None:
        weight = state.pop(f"{input_convolution}.weight")
        bias = state.pop(f"{input_convolution}.bias")
    state.setdefault("conv_in.weight", torch.zeros_like(weight))
    state.setdefault("conv_in.bias", torch.zeros_like(bias))
    # Express it by two convolutions.
    both = like.new_zeros(2 * channels, channels, 3, 3)
    both[:, :, 1, 1] = torch.cat([torch.eye(channels), -torch.eye(channels)]).to(like)
    state[f"{_CONTROL}.conv_in.weight"] = both
    state[f"{_CONTROL}.conv_in.bias"] = like.new_zeros(2 * channels)
    state[f"{_CONTROL}.conv_out.weight"] = torch.cat([weight, -weight], dim=1)
    state[f"{_CONTROL}.conv_out.bias"] = bias
    # Build diffusers' ControlNet with these weights.
    form = {
        "conditioning_channels": channels,
        "conditioning_embedding_out_channels": (2 * channels,),
    }
    # Entries with an underscore are diffusers' own; one would make it ignore settings.
    settings = {name: value for name, value in controlnet.config.items() if name[0] != "_"}
    with torch.device("meta"):  # its weights are replaced
        stock = ControlNetModel(**settings | form)
    stock.load_state_dict(state, assign=True)
    return stock.eval()


def load_from_stock(
    controlnet: ControlNetModel, input_convolution: str | None, stock: ControlNetModel
) -> None:
    """Load the weights of a result of as_stock. Raises ValueError for another architecture."""
    state = dict(stock.state_dict())
    control = {name: state.pop(name) for name in list(state) if name.startswith(_CONTROL)}
    channels = controlnet.conv_in.in_channels
    weight = control[f"{_CONTROL}.conv_out.weight"]
    if stock.config.conditioning_channels != channels or weight.shape[1] != 2 * channels:
        raise ValueError(
            f"This ControlNet reads a control image of {stock.config.conditioning_channels} "
            f"channels through {weight.shape[1]}, and the net one of {channels} through "
            f"{2 * channels}; give one that `portraitlab export` wrote for this net."
        )
    if input_convolution is not None:
        state[f"{input_convolution}.weight"] = weight[:, :channels]
        state[f"{input_convolution}.bias"] = control[f"{_CONTROL}.conv_out.bias"]
    load_alike(controlnet, state)


def load_alike(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load all weights, in the model's precision. Raises ValueError for other names or shapes."""
    remedy = "give one that `portraitlab export` wrote for this net"
    check_alike(model.state_dict(), state, "This ControlNet does not match the net", remedy)
    model.load_state_dict(state)


def check_fit(
    model: ControlNetModel | UNet2DConditionModel, backbone: Backbone, name: str, remedy: str
) -> None:
    """Check that a ControlNet or UNet is of the form of the backbone's UNet. Raises ValueError.

    name: the user's name for it, for errors. remedy: an alternative to another one.
    """
    for setting in _FORM:
        given, needed = model.config[setting], backbone.unet.config[setting]
        if _plain(given) != _plain(needed):
            raise ValueError(
                f"{name} has {setting}={given}, and the backbone's UNet {needed}; give one "
                f"trained with it, or {remedy}."
            )


def _plain(value: object) -> object:
    """Convert a list, as config.json has them, to the tuple that a call has."""
    return tuple(value) if isinstance(value, list) else value
