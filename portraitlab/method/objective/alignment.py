"""The lightning branch with PuLID's alignment losses (Guo et al., PuLID, 2024, Sec. 3.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.encoder.models import Recogniser
from portraitlab.method.net.attention import attended
from portraitlab.method.objective.base import Denoising
from portraitlab.method.objective.lightning import LightningBranch, Start

Queries = dict[str, Tensor]
"""The queries [n, h·w, C] of each cross-attention, by its name, at one noise level."""


class AlignedLightningLoss(LightningBranch):
    """The lightning loss, and the change of the student's queries by the identity.

    The student draws twice from the same noise, prompt and control image, with identity and
    without. With Q_id and Q a cross-attention's queries in the two, and K the prompt's keys,

        semantic = |softmax(K Q_id^T / sqrt d) Q_id - softmax(K Q^T / sqrt d) Q|^2
        layout = |Q_id - Q|^2

    so that each word keeps its response from the picture, and each place its content. d is a head's
    width, as in the UNet. The paper does not state how its norms are reduced, in which layers and
    steps: ours are means over the entries, then over all cross-attentions and the last `grad_last`
    steps. The drawing without identity has no gradient. The one with identity is also the identity
    loss's, so that it is drawn once.

    weight, semantic_weight, layout_weight: factors of the three losses; the paper's are 1 (of the
    identity loss), and the authors give 0.6 and 0.1 (github.com/ToTheBeginning/PuLID, issue 59).
    The other settings are LightningBranch's.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        regressor: nn.Module | None,
        student: UNet2DConditionModel | None,
        weight: float = 1.0,
        semantic_weight: float = 0.6,
        layout_weight: float = 0.1,
        steps: int | None = 4,
        grad_last: int = 1,
        threshold: float = 0.5,
        start_fraction: float = 0.0,
        every: int = 1,
        samples: int | None = None,
    ) -> None:
        super().__init__(
            recogniser, regressor, student, weight, steps, grad_last, threshold, start_fraction,
            every, samples,
        )  # fmt: skip
        self.part_weights = {
            "identity": weight,
            "semantic": semantic_weight,
            "layout": layout_weight,
        }

    def forward(self, denoising: Denoising) -> dict[str, Tensor] | None:
        """Average the three losses over the first samples; None in a step in which it does not act.

        Returns a process's shares of the whole batch's means, times the number of processes.
        """
        if not self.acts(denoising):
            return None
        start = self.start(denoising)
        if not len(start.noise):
            return dict.fromkeys(self.part_weights, denoising.prediction.new_zeros(()))
        # Draw with and without identity. A net with a UNet of its own may inject nothing in one of
        # the two, where the student itself runs.
        backbone = start.model.backbone
        unets = {self.student or backbone.unet, start.model.net.running_unet(backbone)}
        with collected_queries(unets, self.grad_last) as with_identity:
            latents = self.draw(start)
        condition = replace(start.condition, tokens=None, references=None)
        with collected_queries(unets, self.grad_last) as without, torch.no_grad():
            self.draw(replace(start, condition=condition))
        # Compare the images, then the queries.
        semantic, layout = self.alignment(start, with_identity, without)
        return {
            "identity": self.compare(start, latents),
            "semantic": start.share * semantic,
            "layout": start.share * layout,
        }

    def alignment(
        self, start: Start, with_identity: deque[Queries], without: deque[Queries]
    ) -> tuple[Tensor, Tensor]:
        """Average the semantic and the layout loss over cross-attentions and steps."""
        semantic, layout = [], []
        unet = start.model.net.running_unet(start.model.backbone)
        for name, attention in cross_attentions(unet).items():
            with torch.no_grad(), start.model.backbone.computing():
                keys = attention.to_k(start.condition.text.words).float()
            for step_with, step_without in zip(with_identity, without, strict=True):
                query, bare = step_with[name].float(), step_without[name].float()
                found = attended(keys, query, query, attention.heads)
                semantic.append(
                    functional.mse_loss(found, attended(keys, bare, bare, attention.heads))
                )
                layout.append(functional.mse_loss(query, bare))
        return torch.stack(semantic).mean(), torch.stack(layout).mean()


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return the attentions of a UNet that read the prompt, by name."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {name: unet.get_submodule(name) for name in names if name.endswith("attn2")}


@contextmanager
def collected_queries(unets: Iterable[UNet2DConditionModel], last: int) -> Iterator[deque[Queries]]:
    """Collect the queries of cross-attentions in the last calls of any of these UNets.

    They keep their gradient in calls within torch's checkpoint, whose recomputation in the backward
    pass, after the context, is not collected.
    """
    calls: deque[Queries] = deque(maxlen=last)
    handles = [unet.register_forward_pre_hook(lambda *_: calls.append({})) for unet in unets]
    attentions = [pair for unet in unets for pair in cross_attentions(unet).items()]
    for name, attention in attentions:

        def keep(module: nn.Module, inputs: object, queries: Tensor, name: str = name) -> None:
            calls[-1][name] = queries

        handles.append(attention.to_q.register_forward_hook(keep))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
