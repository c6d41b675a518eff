"""The identity loss on an image of a few-step student, from pure noise (FaceSnap, eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from portraitlab.faces.encoder.models import Recogniser
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.stock import check_fit
from portraitlab.method.objective.base import Denoising
from portraitlab.method.objective.face import FaceTerm
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.support.checks import check_whole
from portraitlab.types import Condition


@dataclass(frozen=True)
class Start:
    """The start of a step's trajectories, of this process's n samples; n may be 0.

    model: the model with the student as its UNet. condition [n], with a gradient to the fusion.
    noise [n, c, h, w]. identity: unit embeddings [n, d2'] of the references. keypoints [n, 5, 2]:
    keypoints of the targets' faces. share: factor from a mean over the n samples to one over the
    whole batch's, times the number of processes.
    """

    model: PortraitModel
    condition: Condition
    noise: Tensor
    identity: Tensor
    keypoints: Tensor
    share: float


class LightningBranch(FaceTerm):
    """A term on images that a few-step student draws, PuLID's lightning branch.

    The student draws from pure noise under the condition that is trained and the batch's prompts,
    in `steps` steps of DDIM without guidance (Guo et al., PuLID, 2024, Sec. 3.2). The gradient
    flows through the last `grad_last` steps, one after the other recomputed in the backward pass.

    student: a UNet of the backbone's architecture that draws in `steps` steps without guidance; it
    is frozen. It runs with the net's attention processors, so that any net steers it. None draws
    with the backbone's own UNet. The other settings are FaceTerm's.

    Raises ValueError without steps, where grad_last is not in 1..steps, and in the first step for a
    student that does not fit the backbone.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        regressor: nn.Module | None,
        student: UNet2DConditionModel | None,
        weight: float = 0.5,
        steps: int | None = 4,
        grad_last: int = 1,
        threshold: float = 0.5,
        start_fraction: float = 0.0,
        every: int = 1,
        samples: int | None = None,
    ) -> None:
        super().__init__(recogniser, regressor, weight, threshold, start_fraction, every, samples)
        if steps is None:
            raise ValueError(
                "The lightning loss needs a few-step student of the backbone, and student=none; "
                "choose another student, or an objective without lightning."
            )
        name = "objective.terms.lightning.grad_last"
        check_whole(name, grad_last, 1, steps, f"; the student has {steps} steps")
        self.student = None if student is None else student.requires_grad_(False).eval()
        self.sampler = DDIM(steps=steps, guidance=1.0)
        self.grad_last = grad_last
        self._joined: tuple[PortraitModel, PortraitModel] | None = None

    def start(self, denoising: Denoising) -> Start:
        """Draw the noise of the first samples, the same in all processes; take this process's."""
        split, batch = denoising.split, denoising.batch
        count = len(denoising.all_timesteps)
        count = count if self.samples is None else min(count, self.samples)
        shape = (count, *batch.latents.shape[1:])
        noise = torch.randn(shape, generator=denoising.generator)
        chosen = split.places(torch.arange(count))
        return Start(
            self._steered(denoising.model),
            denoising.condition[chosen],
            split.own(noise).to(batch.latents),
            batch.identity[chosen],
            batch.target_geometry.keypoints[chosen],
            share=split.processes * len(chosen) / count,
        )

    def draw(self, start: Start) -> Tensor:
        """Draw latents [n, c, h, w] by the student, with a gradient through its last steps."""
        return self.sampler.trajectory(
            start.model, start.condition, start.noise, grad_last=self.grad_last
        )

    def compare(self, start: Start, latents: Tensor) -> Tensor:
        """Decode latents [n, c, h, w] and average eq. 4, times the share."""
        images = start.model.backbone.decode(latents)
        return start.share * self.loss(images, start.identity, start.keypoints)

    def _steered(self, model: PortraitModel) -> PortraitModel:
        """Return the model with the student as its UNet, with all else of the model."""
        if self.student is None:
            return model
        if self._joined is None or self._joined[0] is not model:
            unet = model.backbone.unet
            remedy = "choose an objective without the lightning loss"
            check_fit(self.student, model.backbone, "student", remedy)
            self.student.set_attn_processor(dict(unet.attn_processors))
            if unet.is_gradient_checkpointing:
                self.student.enable_gradient_checkpointing()
            self._joined = model, model.with_unet(self.student)
        return self._joined[1]


class LightningLoss(LightningBranch):
    """1 - cos(E(reference), E(L-T2I(noise, condition, prompt))): the student's images compared.

    weight: lambda of eq. 5; the other settings are LightningBranch's.
    """

    def forward(self, denoising: Denoising) -> Tensor | None:
        """Average eq. 4 over the first samples; None in a step in which it does not act.

        Returns a process's share of the whole batch's mean, times the number of processes.
        """
        if not self.acts(denoising):
            return None
        start = self.start(denoising)
        if not len(start.noise):
            return denoising.prediction.new_zeros(())
        return self.compare(start, self.draw(start))
