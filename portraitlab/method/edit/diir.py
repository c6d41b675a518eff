"""DIIR: restore broken faces by DDIM inversion (FPGA, Sec. 3.2, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import functional

from portraitlab.method.edit.fusion import MaskGuidedFusion, Outside, Product, Statistics
from portraitlab.method.edit.inversion import invert
from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.edit.self_attention import BLOCKS, Features, SelfAttentionCache
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.base import Drops
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.types import Condition

Inverted = Literal["same", "prompt"]


class DIIR(FaceRestoration):
    """Invert the broken face, and sample it again as the person, under its own features.

    steps: T, the noise levels of inversion and sampling. guidance, guidance_drops: see Sampler;
    used for sampling only. inverted_under: condition of the inversion, "same" as of the sampling,
    or "prompt", the backbone alone. repeats: UNet calls for each level of the inversion.

    features: features of the self-attentions to cache and fuse (SelfAttentionCache), or None.
    blocks: UNet blocks whose self-attentions are fused. latents: True fuses the latents after each
    step. statistics, product, outside: see MaskGuidedFusion. The other settings are
    FaceRestoration's. Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        steps: int = 30,
        guidance: float = 5.0,
        guidance_drops: Drops = "everything",
        inverted_under: Inverted = "same",
        repeats: int = 1,
        features: Features | None = "output",
        blocks: Sequence[str] = ("up",),
        latents: bool = True,
        statistics: Statistics = "inside",
        product: Product = "weights",
        outside: Outside = "cached",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sampler = DDIM(steps, guidance, 0.0, guidance_drops)
        check_choice("edit.inverted_under", inverted_under, ("same", "prompt"))
        self.inverted_under = inverted_under
        self.repeats = check_whole("edit.repeats", repeats)
        if features is not None:
            check_choice("edit.features", features, get_args(Features))
        for block in blocks:
            check_choice("edit.blocks", block, BLOCKS)
        self.features = features
        self.blocks = tuple(blocks)
        self.latents = latents
        self.fusion = MaskGuidedFusion(statistics, product, outside)

    def restore(
        self,
        model: PortraitModel,
        crops: Tensor,
        condition: Condition,
        masks: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Restore crops [F, 3, S, S] by Algorithm 1, whose lines are numbered below."""
        if beside is not None:
            raise ValueError(
                "edit=diir fuses the features of one picture, and this run's net reads two side by "
                "side; choose edit=progressive or edit=inpaint."
            )
        # Build the scheduler, the cache of features, and the two predictors.
        backbone = model.backbone
        scheduler = self.sampler.scheduler(backbone)
        attention = SelfAttentionCache(
            backbone.unet, self.blocks if self.features else (), self.features or "output"
        )
        under = condition
        if self.inverted_under == "prompt":
            under = replace(condition, tokens=None, drawing=None, references=None)
        plain = DDIM(self.sampler.steps, guidance=1.0).predictor(model, under)
        guided = self.sampler.predictor(model, condition)

        def cached(noisy: Tensor, timesteps: Tensor) -> Tensor:
            with attention.caching(int(timesteps[0])):
                return plain(noisy, timesteps)

        # Run Algorithm 1.
        with attention.watching():
            with backbone.computing():
                clean = backbone.encode(crops).float()  # 1
            path = invert(scheduler, cached, clean, self.repeats)  # 2
            latents = path[-1]  # 3
            for timestep in scheduler.timesteps:  # 5
                path.pop()
                timesteps = timestep.expand(len(latents)).to(latents.device)
                with attention.fusing(int(timestep), partial(self._fused, masks)):  # 4 and 6
                    prediction = guided(latents, timesteps)
                latents = scheduler.step(prediction, timestep, latents).prev_sample  # 7
                if self.latents:  # 8
                    fused = self._fused(masks, _positions(latents), _positions(path[-1]))
                    latents = fused.mT.unflatten(-1, latents.shape[-2:])
        with backbone.computing():
            return backbone.decode(latents)  # 10

    def _fused(self, masks: Tensor, own: Tensor, cached: Tensor) -> Tensor:
        """Fuse features [F, P, C] of square maps under masks [F, 1, S, S]."""
        side = round(own.shape[1] ** 0.5)
        at_size = functional.adaptive_avg_pool2d(masks, (side, side))
        return self.fusion(own, cached, at_size.flatten(1))


def _positions(maps: Tensor) -> Tensor:
    """Rearrange maps [F, C, h, w] to features [F, P, C] of their P = h·w positions."""
    return maps.flatten(2).mT
