"""The clone-face attention loss: one identity is attended alike in two places (FPGA, eq. 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

from portraitlab.method.net.attention import resolution
from portraitlab.method.objective.base import Denoising, Term
from portraitlab.support.checks import check_number, check_whole


class CloneFaceLoss(Term):
    """The squared difference of the branch's features in the two copies of a face.

    Eq. 2: || (Crop(F, M1) - Crop(F, M2)) · G ||^2, where F is what the branch's first
    cross-attention adds from identity tokens, M1 and M2 are the boxes of the two faces, and G is a
    Gaussian of the size of a crop. Acts in steps in which a transform has cloned the faces.

    The paper sets no scale; here the squares are averaged over the features' channels and summed
    over a crop with weights G^2 that sum to 1, so that the weight does not depend on the size of
    the crop or the net.

    weight: lambda of eq. 4. least: smallest edge of a crop in cells; a larger face has a crop of
    its own size in latent cells ("adaptive resolution (greater than 32 x 32)"). spread: standard
    deviation of G as a fraction of the crop, which the paper does not state.

    Raises ValueError for a crop without a cell, and in the first step with a net whose branch reads
    no identity tokens.
    """

    def __init__(self, weight: float = 0.2, least: int = 32, spread: float = 0.25) -> None:
        super().__init__(weight)
        check_whole("objective.terms.clone_faces.least", least)
        check_number("objective.terms.clone_faces.spread", spread, above=0)
        self.least = least
        self.spread = spread

    def forward(self, denoising: Denoising) -> Tensor | None:
        """Average eq. 2 over the samples; None in a step without clones.

        Returns a process's share of the whole batch's mean, times the number of processes.
        """
        boxes = denoising.batch.clones
        if boxes is None:
            return None
        if denoising.attended is None:
            raise ValueError(
                "objective.terms.clone_faces needs a net whose branch reads identity tokens; "
                "choose net=mmf, or transform=none."
            )
        # Arrange the features as maps, and the boxes in their cells.
        height, width = denoising.noisy.shape[-2:]
        shape = resolution(height, width, denoising.attended.shape[1])
        features = denoising.attended.float().transpose(1, 2).unflatten(2, shape)
        cells = (boxes * boxes.new_tensor([*reversed(shape), *reversed(shape)])).float()
        latent_cells = boxes[:, 0] * boxes.new_tensor([width, height, width, height])
        edges = (latent_cells[:, 2:] - latent_cells[:, :2]).amax(dim=-1)
        # Compare both crops of each sample, mostly in the middle.
        squares = []
        for sample, edge in enumerate(max(self.least, math.ceil(each)) for each in edges.tolist()):
            one = slice(sample, sample + 1)
            first, second = roi_align(features[one], [cells[sample]], (edge, edge), aligned=True)
            weight = _gaussian(edge, self.spread).to(first).square()
            squared = (first - second).square().mean(dim=0)
            squares.append((squared * weight).sum() / weight.sum())
        split = denoising.split
        return split.processes * torch.stack(squares).sum() / len(denoising.all_timesteps)


def _gaussian(edge: int, spread: float) -> Tensor:
    """Return a Gaussian [edge, edge] about the centre, 1 at its peak; spread in edges."""
    place = (torch.arange(edge) + 0.5) / edge - 0.5
    along = torch.exp(-0.5 * (place / spread).square())
    return along[:, None] * along
