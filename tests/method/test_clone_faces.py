"""Clone face tuning: pictures laid beside themselves, and eq. 2 of FPGA written out slowly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from denoised import denoising, opened, seeded, shared
from steering import published
from torch import Tensor
from torch.utils.data import Dataset

from portraitlab.data.loader import PortraitData
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.alignment import face_boxes
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.objective.base import Denoising
from portraitlab.method.objective.clone_faces import CloneFaceLoss
from portraitlab.method.objective.masked import MaskedNoiseLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.method.transform.base import Transform
from portraitlab.method.transform.clone_faces import CloneFaces
from portraitlab.method.transform.none import NoTransform
from portraitlab.support.precision import quick_attention
from portraitlab.training.module import PortraitModule
from portraitlab.types import Batch

STEPS = 6
OTHER_BRANCHES: dict[str, Callable[[Backbone], Net]] = {
    "hifi_net": lambda backbone: HiFiNet(backbone, True, True),
    "ffrnet": lambda backbone: FFRNet(backbone, True, True),
    "instantid": lambda backbone: InstantID(backbone, True, True),
}


@pytest.fixture
def build(tiny_backbone) -> Callable[..., PortraitModel]:
    def build(
        net: Callable[[Backbone], Net] = lambda backbone: MultiModeFusion(backbone, True, True),
        **settings: Any,
    ) -> PortraitModel:
        backbone = tiny_backbone()
        torch.manual_seed(0)
        fusion = ResamplerFusion(10, 12, 16, **{"layers": 1, "heads": 2, **settings})
        a_net = net(backbone)
        return PortraitModel(backbone, fusion, KeypointCond() if a_net.control else NoCond(), a_net)

    return build


def cloned(model: PortraitModel, batch: Batch) -> Batch:
    return CloneFaces().apply(model.with_drawing(batch), step=0)


def attended(model: PortraitModel, batch: Batch) -> Denoising:
    """A denoising of cloned faces, with what the branch attends to."""
    whole = denoising(model, batch)
    injection = model.net(whole.noisy, whole.timesteps, whole.condition)
    return replace(whole, attended=injection.attended)


@pytest.mark.parametrize("every", [1, 3, 10])
def test_pictures_are_doubled_in_every_nth_step_and_left_alone_in_others(
    build, tiny_batch, every: int
) -> None:
    batch = build().with_drawing(tiny_batch())
    transform = CloneFaces(every)
    for step in range(2 * every + 1):
        changed = transform.apply(batch, step)
        assert (changed is batch) is (step % every != 0)
        assert NoTransform().apply(batch, step) is batch


def test_each_image_is_beside_itself_and_all_else_is_the_same(build, tiny_batch) -> None:
    batch = build().with_drawing(tiny_batch())
    batch = replace(batch, face_mask=torch.rand(3, 16, 16, generator=seeded()))
    changed = cloned(build(), batch)
    doubled = ("latents", "person", "drawing", "face_mask")
    for field in fields(batch):
        before, after = getattr(batch, field.name), getattr(changed, field.name)
        if field.name in doubled:
            wide = before.shape[-1]
            assert after.shape == (*before.shape[:-1], 2 * wide)
            assert torch.equal(after[..., :wide], before)
            assert torch.equal(after[..., wide:], before)
        elif field.name != "clones":
            assert after is before, field.name


def test_boxes_are_of_the_two_faces_each_in_its_half(tiny_batch) -> None:
    batch = tiny_batch()
    batch.target_geometry.keypoints[2] += torch.tensor([0.4, -0.1])  # cut off by the frame
    boxes = CloneFaces().apply(batch, 0).clones
    assert boxes.shape == (3, 2, 4)
    one = face_boxes(batch.target_geometry.keypoints)
    for sample in range(3):
        left, right = boxes[sample].tolist()
        whole = [min(1.0, max(0.0, value)) for value in one[sample].tolist()]
        assert left == pytest.approx([whole[0] / 2, whole[1], whole[2] / 2, whole[3]])
        assert right == pytest.approx([left[0] + 0.5, left[1], left[2] + 0.5, left[3]])
        assert 0 <= left[0] < left[2] <= 0.5 <= right[0] < right[2] <= 1
        for x, y in batch.target_geometry.keypoints[sample].clamp(0, 1).tolist():
            assert left[0] <= x / 2 <= left[2]
            assert left[1] <= y <= left[3]
    without = replace(batch, drawing=None, face_mask=None)
    assert CloneFaces().apply(without, 0).drawing is None
    assert CloneFaces().apply(without, 0).face_mask is None


def test_a_picture_is_never_cloned_with_a_number_below_one() -> None:
    with pytest.raises(ValueError, match=r"transform\.every=0: a whole .* from 1 .*transform=none"):
        CloneFaces(every=0)
    with pytest.raises(ValueError, match=r"clone_faces\.least=0: a whole number from 1"):
        CloneFaceLoss(least=0)
    with pytest.raises(ValueError, match=r"clone_faces\.spread=0\.0: a number above 0 is needed"):
        CloneFaceLoss(spread=0.0)


def crop(features: Tensor, box: list[float], edge: int) -> Tensor:
    """Crop(F, M): read maps [C, h, w] between cells at the middles of a grid over a box."""
    channels, height, width = features.shape
    left, top, right, bottom = box
    out = torch.zeros(channels, edge, edge)
    for row in range(edge):
        for column in range(edge):
            y = (top + (bottom - top) * (row + 0.5) / edge) * height - 0.5
            x = (left + (right - left) * (column + 0.5) / edge) * width - 0.5
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            above, before = math.floor(y), math.floor(x)
            for near_y, share_y in ((above, above + 1 - y), (above + 1, y - above)):
                for near_x, share_x in ((before, before + 1 - x), (before + 1, x - before)):
                    if share_y > 0 and share_x > 0:
                        out[:, row, column] += share_y * share_x * features[:, near_y, near_x]
    return out


def eq_2(features: Tensor, boxes: Tensor, edge: int, spread: float) -> Tensor:
    """|| (Crop(F, M1) - Crop(F, M2)) . G ||^2, scaled so that G^2 / C sums to 1."""
    centre = (edge - 1) / 2
    gaussian = torch.tensor(
        [
            [
                math.exp(-((y - centre) ** 2 + (x - centre) ** 2) / (2 * (spread * edge) ** 2))
                for x in range(edge)
            ]
            for y in range(edge)
        ]
    )
    first, second = (crop(features, box, edge) for box in boxes.tolist())
    norm = ((first - second) * gaussian).square().sum()
    return norm / len(features) / gaussian.square().sum()


def test_the_loss_agrees_with_eq_2_written_out_slowly(build, tiny_batch) -> None:
    model, batch = opened(build()), tiny_batch()
    batch.target_geometry.keypoints[1] -= torch.tensor([0.35, 0.0])  # cut off by the frame
    given = attended(model, cloned(model, batch))
    for least, spread in ((4, 0.25), (9, 0.4)):
        slow = []
        for sample in range(3):
            boxes = given.batch.clones[sample]
            wide = float(boxes[0, 2] - boxes[0, 0]) * 32
            tall = float(boxes[0, 3] - boxes[0, 1]) * 16
            edge = max(least, math.ceil(max(wide, tall)))
            features = given.attended[sample].T.reshape(-1, 8, 16)
            slow.append(eq_2(features, boxes, edge, spread))
        loss = CloneFaceLoss(least=least, spread=spread)(given)
        torch.testing.assert_close(loss, torch.stack(slow).mean(), atol=1e-7, rtol=1e-4)
    assert loss > 1e-5


def test_equal_features_of_both_faces_cost_nothing_and_the_middle_counts_most(
    build, tiny_batch
) -> None:
    model = build()
    batch = cloned(model, tiny_batch())
    given, term = denoising(model, batch), CloneFaceLoss(least=8)
    half = torch.randn(3, 16, 8, 8, generator=seeded())

    def loss(right: Tensor) -> float:
        maps = torch.cat([half, right], dim=-1)
        return term(replace(given, attended=maps.flatten(2).transpose(1, 2))).item()

    assert loss(half) < 1e-9
    left, top, right, bottom = (8 * batch.clones[0, 0] * torch.tensor([2, 1, 2, 1])).tolist()
    middle, corner = half.clone(), half.clone()
    middle[0, :, int((top + bottom) / 2), int((left + right) / 2)] += 1
    corner[0, :, int(top), int(left)] += 1
    outside = half.clone()
    outside[0, :, 0, :] += 1
    assert loss(middle) > 3 * loss(corner) > 0
    assert loss(outside) < 1e-9
    # A feature everywhere off by one costs one in that sample, whatever the crop's size.
    off = half.clone()
    off[0] += 1
    assert loss(off) == pytest.approx(1 / 3, rel=1e-4)


def test_the_gradient_reaches_branch_and_fusion_and_nothing_frozen(build, tiny_batch) -> None:
    model = opened(build())
    CloneFaceLoss(least=4)(attended(model, cloned(model, tiny_batch()))).backward()
    reached = {name for name, each in model.named_parameters() if each.grad is not None}
    assert all(each.requires_grad for name, each in model.named_parameters() if name in reached)
    for name, parameter in model.fusion.named_parameters(prefix="fusion"):
        assert name in reached
        assert parameter.grad.any(), name
    for part in ("conv_in", "time_embedding", "down_blocks.0", "controlnet_cond_embedding"):
        assert any(name.startswith(f"net.controlnet.{part}") for name in reached), part
    attention = "net.controlnet.down_blocks.1.attentions.0.transformer_blocks.0.attn2"
    for layer in ("to_q", "to_k", "to_v", "to_out.0"):
        assert model.get_parameter(f"{attention}.{layer}.weight").grad.any(), layer
    # Behind the first cross-attention there is nothing to learn from it.
    assert not any("mid_block" in name for name in reached)


@pytest.mark.parametrize("net", OTHER_BRANCHES)
def test_other_branches_that_read_identity_can_be_tuned_with_it(
    build, tiny_batch, net: str
) -> None:
    model = opened(build(OTHER_BRANCHES[net]))
    loss = CloneFaceLoss(least=4)(attended(model, cloned(model, tiny_batch())))
    assert loss > 0
    loss.backward()
    assert any(each.grad is not None for each in model.fusion.parameters())


@pytest.mark.parametrize("net", ["adapter", "flashface"])
def test_a_net_without_such_features_is_refused_where_faces_are_cloned(
    build, tiny_batch, net: str
) -> None:
    nets = {
        "adapter": lambda backbone: Adapter(backbone, True, True, controlnet=published(backbone)),
        "flashface": lambda backbone: FlashFace(
            backbone, True, False, controlnet=published(backbone)
        ),
    }
    model = build(nets[net])
    batch = model.with_drawing(tiny_batch(latents=True))
    objective = Objective({"noise": NoiseLoss(), "clone_faces": CloneFaceLoss()})
    with pytest.raises(ValueError, match=r"reads identity tokens; .*net=mmf, or transform=none"):
        objective(model, cloned(model, batch), seeded(), progress=0.0)
    assert "clone_faces" not in objective(model, batch, seeded(), progress=0.0)


def test_the_loss_is_a_term_of_cloned_steps_alone(build, tiny_batch) -> None:
    model, batch = opened(build()), tiny_batch()
    objective = Objective({"noise": NoiseLoss(), "clone_faces": CloneFaceLoss(least=4)})
    plain = objective(model, model.with_drawing(batch), seeded(), progress=0.0)
    assert set(plain) == {"loss", "noise"}
    both = objective(model, cloned(model, batch), seeded(), progress=0.0)
    assert set(both) == {"loss", "noise", "clone_faces"}
    torch.testing.assert_close(both["loss"], both["noise"] + 0.2 * both["clone_faces"])


def test_masks_of_faces_are_doubled_for_the_masked_loss(build, tiny_batch) -> None:
    model = opened(build())
    batch = replace(tiny_batch(), face_mask=torch.rand(3, 16, 16, generator=seeded()))
    objective = Objective({"masked": MaskedNoiseLoss(), "clone_faces": CloneFaceLoss(least=4)})
    losses = objective(model, cloned(model, batch), seeded(), progress=0.0)
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("processes", [2, 3])
def test_the_loss_is_the_same_in_one_process_as_in_several(
    build, tiny_batch, processes: int
) -> None:
    model, batch = opened(build()), tiny_batch(batch=6)
    # Faces of many sizes, each with a crop of its own.
    middle = batch.target_geometry.keypoints.mean(dim=1, keepdim=True)
    sizes = torch.linspace(0.5, 1.7, 6)[:, None, None]
    keypoints = middle + sizes * (batch.target_geometry.keypoints - middle)
    batch = replace(batch, target_geometry=replace(batch.target_geometry, keypoints=keypoints))
    batch = cloned(model, batch)
    levels = (10, 100, 300, 500, 700, 990)
    whole = denoising(model, batch, timesteps=levels)
    injection = model.net(whole.noisy, whole.timesteps, whole.condition)
    whole = replace(whole, attended=injection.attended)
    term = CloneFaceLoss(least=4)
    parts = [term(part) for part in shared(whole, processes)]
    torch.testing.assert_close(sum(parts) / processes, term(whole), atol=1e-7, rtol=1e-5)


def test_gradient_checkpointing_gives_the_same_numbers(build, tiny_batch) -> None:
    objective = Objective({"noise": NoiseLoss(), "clone_faces": CloneFaceLoss(least=4, weight=5)})

    def step(recomputed: bool) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        model = opened(build())
        if recomputed:
            model.enable_gradient_checkpointing()
        with quick_attention(torch.device("cpu")):
            losses = objective(model, cloned(model, tiny_batch()), seeded(), progress=0.0)
            losses["loss"].backward()
        return losses, [each.grad for each in model.trained_parameters()]

    losses, gradients = step(recomputed=False)
    again, same = step(recomputed=True)
    assert losses["clone_faces"] > 0
    torch.testing.assert_close(again, losses, rtol=0, atol=0)
    assert all(each is not None for each in gradients)
    torch.testing.assert_close(same, gradients, rtol=0, atol=0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_loss(build, tiny_batch, half: Any) -> None:
    model = opened(build())
    batch = cloned(model, tiny_batch())
    term = CloneFaceLoss(least=4)
    single = term(attended(model, batch)).item()
    with torch.autocast("cpu", half):
        loss = term(attended(model, batch))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(single, rel=0.1)


class Batches(Dataset[Batch]):
    batch_size, steps, rank, world_size = 2, STEPS, 0, 1

    def __init__(self, make: Callable[..., Batch]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Batch:
        return self.make(seed=step, batch=2)


@pytest.fixture
def train(build, tiny_batch, tmp_path: Path) -> Callable[..., Any]:
    def train(
        steps: int = STEPS, resume: Path | None = None, transform: Transform | None = None
    ) -> tuple[lightning.Trainer, PortraitModule, list[int]]:
        widths: list[int] = []

        class Watch(NoiseLoss):
            def forward(self, denoising: Denoising) -> Tensor:
                widths.append(denoising.noisy.shape[-1])
                return super().forward(denoising)

        terms = {"noise": Watch(), "clone_faces": CloneFaceLoss(least=4)}
        model = build()
        model.transform = NoTransform() if transform is None else transform
        module = PortraitModule(model, Objective(terms), learning_rate=1e-2, steps=STEPS)
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=steps, use_distributed_sampler=False, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=1, default_root_dir=tmp_path,
        )  # fmt: skip
        data = PortraitData(Batches(tiny_batch))
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        return trainer, module, widths

    return train


def test_a_training_clones_every_nth_step_and_resumes_to_the_same_numbers(
    train, tmp_path: Path
) -> None:
    transform = CloneFaces(every=3)
    _, whole, widths = train(transform=transform)
    assert widths == [32, 16, 16, 32, 16, 16]
    stopped, _, first = train(steps=2, transform=transform)
    stopped.save_checkpoint(tmp_path / "second.ckpt")
    resumed, other, rest = train(resume=tmp_path / "second.ckpt", transform=transform)
    assert resumed.global_step == STEPS
    assert first + rest == widths
    torch.testing.assert_close(other.state_dict(), whole.state_dict(), atol=0, rtol=0)
    _, plain, narrow = train()
    assert narrow == [16] * STEPS
    assert any(
        not torch.equal(value, whole.state_dict()[name])
        for name, value in plain.state_dict().items()
    )


def test_training_with_it_makes_the_features_of_both_faces_alike(build, tiny_batch) -> None:
    model, term = opened(build()), CloneFaceLoss(least=4)
    batch = cloned(model, tiny_batch())
    optimiser = torch.optim.Adam(model.trained_parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = term(attended(model, batch))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
