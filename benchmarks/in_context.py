"""Time a training step of two pictures side by side beside one of a single picture.

python benchmarks/in_context.py      (a quiet machine; writes benchmarks/results/in_context.json)

All steps are of the larger canvas's UNet, with random weights, and a branch that reads pixels: of
one picture, of the pair, and of the pair with the profile's residuals warped in (IC-Portrait, eqs.
5 to 7), for which the matching net runs in each step too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from diffusers import ControlNetModel
from records import write
from torch import nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch, pixel_stages
from portraitlab.method.net.in_context import InContext
from portraitlab.support.precision import quick_attention
from portraitlab.types import Condition, TextFeatures
from portraitlab.world.models.text_to_image import PROMPT_LENGTH, CanvasTextToImage, make_scheduler
from portraitlab.world.pretrained import load_autoencoder
from portraitlab.world.tokenizer import CANVAS_VOCABULARY, WordTokenizer

ROUNDS, BATCH, WORDS = 5, 8, 4


def canvas() -> Backbone:
    """Build the larger canvas's backbone with random weights."""
    torch.manual_seed(0)
    model = CanvasTextToImage()
    tokenizer = WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY)
    parts = (model.unet, load_autoencoder(), model.text_encoder, tokenizer, make_scheduler())
    return Backbone(*parts)


class Words(nn.Module):
    """An image prompt that costs nothing."""

    words = WORDS

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return words of zeros."""
        return images.new_zeros(len(images), WORDS, 128)


def step_of(backbone: Backbone, net: ControlBranch, pictures: int) -> Callable[[], float]:
    """Return a function that runs one step of the noise loss and returns its seconds."""
    latents, pixels = backbone.latent_size, backbone.image_size
    noisy = torch.randn(BATCH, 4, latents, pictures * latents)
    shown = torch.rand(BATCH, 3, pixels, pictures * pixels)
    levels = torch.randint(1000, (BATCH,))
    condition = Condition(TextFeatures(torch.randn(BATCH, WORDS, 128)), None, shown)

    def step() -> float:
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16), quick_attention(torch.device("cpu")):
            injection = net(noisy, levels, condition)
            backbone.predict(noisy, levels, condition.text, injection).square().mean().backward()
        return time.perf_counter() - begun

    return step


def main() -> None:
    """Time all steps in turns."""
    backbone = canvas()
    stages = pixel_stages(backbone)
    matching = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=stages)
    nets = {
        "one picture": (ControlBranch(backbone, True, "text", "pixels", noise_gate=None), 1),
        "side by side": (InContext(backbone, True, False, Words()), 2),
        "side by side, matched": (InContext(backbone, True, False, Words(), matching), 2),
    }
    steps = {name: step_of(backbone, net, pictures) for name, (net, pictures) in nets.items()}
    rounds = [{name: step() for name, step in steps.items()} for _ in range(1 + ROUNDS)][1:]
    seconds = {name: min(times[name] for times in rounds) for name in steps}
    write("in_context", seconds, batch_size=BATCH)


if __name__ == "__main__":
    main()
