"""Recognisers in torch: published state dicts read, plain references agreed with, gradients."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import ARCFACE, align, face_crops
from portraitlab.faces.recogniser.arcface import ArcFace
from portraitlab.faces.recogniser.facenet import FaceNet
from portraitlab.faces.recogniser.inception_resnet import InceptionResnetV1
from portraitlab.faces.recogniser.iresnet import IResNet
from portraitlab.faces.recogniser.mobilefacenet import MobileFaceNet
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.scoring.judge import Judge
from portraitlab.world.pretrained import load_clip, load_recogniser, load_regressor

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


def random_state(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights and batch statistics that keep activations about as large as they come in."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif value.dim() > 1:
            spread = (2 / value[0].numel()) ** 0.5
            state[name] = spread * torch.randn(value.shape, generator=generator)
        else:
            offset = 1.0 if name.endswith("weight") else 0.0
            state[name] = offset + 0.1 * torch.randn(value.shape, generator=generator)
    return state


def saved(folder: Path, state: dict[str, Tensor], name: str = "backbone.pth") -> str:
    path = folder / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def crops_of(size: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, size, size, generator=generator) * 2 - 1


def normed(state: dict[str, Tensor], name: str, maps: Tensor, eps: float = 1e-5) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return functional.batch_norm(maps, mean, var, weight, bias, eps=eps)


def plain_iresnet(state: dict[str, Tensor], crops: Tensor) -> Tensor:
    """arcface_torch's network, from the names of its weights alone."""
    norm = functools.partial(normed, state)
    maps = norm("bn1", functional.conv2d(crops, state["conv1.weight"], padding=1))
    maps = functional.prelu(maps, state["prelu.weight"])
    for layer in range(1, 5):
        unit = 0
        while f"layer{layer}.{unit}.conv1.weight" in state:
            name, stride = f"layer{layer}.{unit}", 2 if unit == 0 else 1
            inner = functional.conv2d(
                norm(f"{name}.bn1", maps), state[f"{name}.conv1.weight"], padding=1
            )
            inner = functional.prelu(norm(f"{name}.bn2", inner), state[f"{name}.prelu.weight"])
            inner = functional.conv2d(
                inner, state[f"{name}.conv2.weight"], stride=stride, padding=1
            )
            if f"{name}.downsample.0.weight" in state:
                maps = functional.conv2d(maps, state[f"{name}.downsample.0.weight"], stride=stride)
                maps = norm(f"{name}.downsample.1", maps)
            maps = maps + norm(f"{name}.bn3", inner)
            unit += 1
    flat = norm("bn2", maps).flatten(1)
    return norm("features", functional.linear(flat, state["fc.weight"], state["fc.bias"]))


def test_an_iresnet_is_recognised_by_its_weights(tmp_path) -> None:
    state = random_state(IResNet(DEPTHS[18], 64))
    arcface = ArcFace(saved(tmp_path, state))
    assert arcface.global_dim == 64
    crops = crops_of(112)
    embeddings = arcface(crops)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    wanted = functional.normalize(plain_iresnet(state, crops), dim=-1)
    torch.testing.assert_close(embeddings, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("depth", "millions"), [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)]
)
def test_iresnets_have_as_many_weights_as_the_published_ones(depth, millions) -> None:
    with torch.device("meta"):
        model = IResNet(DEPTHS[depth])
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.01)


def test_unpublished_depths_are_recognised_too(tmp_path) -> None:
    state = random_state(IResNet((1, 2, 1, 1), 8))
    assert ArcFace(saved(tmp_path, state)).global_dim == 8


def test_half_precision_and_old_files_without_counters_are_read(tmp_path) -> None:
    state = random_state(MobileFaceNet(32))
    whole = ArcFace(saved(tmp_path, state))
    half = {name: v.half() for name, v in state.items() if "num_batches" not in name}
    other = ArcFace(saved(tmp_path, half, "half.safetensors"))
    crops = crops_of(112)
    assert functional.cosine_similarity(whole(crops), other(crops)).min() > 0.999


def test_files_of_other_models_and_broken_ones_are_refused(tmp_path) -> None:
    state = random_state(MobileFaceNet(32))
    with pytest.raises(
        ValueError, match=r"recogniser\.weights names no file.*MobileFaceNet.*Apache"
    ):
        ArcFace(None)
    with pytest.raises(ValueError, match=r"recogniser\.weights=.*gone\.pth is no file.*non-comm"):
        ArcFace(str(tmp_path / "gone.pth"))
    with pytest.raises(ValueError, match=r"of an unknown architecture: it has 1 tensors, first a"):
        ArcFace(saved(tmp_path, {"a": torch.zeros(1)}))
    with pytest.raises(
        ValueError, match=r"is no MobileFaceNet \(1 differences, first: x is unknown"
    ):
        ArcFace(saved(tmp_path, state | {"x": torch.zeros(1)}))
    lacking = {name: value for name, value in state.items() if name != "bn.bias"}
    with pytest.raises(ValueError, match=r"first: bn\.bias is missing"):
        ArcFace(saved(tmp_path, lacking))
    path = Path(saved(tmp_path, state))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"backbone\.pth \(\d+ bytes\) cannot be read as weights"):
        ArcFace(str(path))
    torch.save({"epoch": 3, "net": MobileFaceNet}, path)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        ArcFace(str(path))
    torch.save({"state_dict": state, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"is not a state dict.*Save the model's state_dict"):
        ArcFace(str(path))
    cut = Path(saved(tmp_path, state, "cut.safetensors"))
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"cut\.safetensors .*cannot be read as weights"):
        ArcFace(str(cut))


def test_the_identity_loss_pulls_decoded_pixels_through_arcface(tmp_path) -> None:
    arcface = ArcFace(saved(tmp_path, random_state(MobileFaceNet(32))))
    loss = IdentityLoss(arcface, load_regressor(), threshold=-1.0)
    images = crops_of(64).requires_grad_(True)
    identity = functional.normalize(torch.randn(2, 32, generator=torch.Generator().manual_seed(2)))
    before = loss.loss(images, identity)
    before.backward()
    assert images.grad is not None
    assert images.grad.flatten(1).norm(dim=1).min() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    after = loss.loss(images - 0.01 * images.grad / images.grad.norm(), identity)
    assert after < before
    assert loss.train().recogniser.training is False


def plain_facenet(state: dict[str, Tensor], crops: Tensor) -> Tensor:
    """facenet-pytorch's network, from the names of its weights alone."""

    def conv(name: str, maps: Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
        maps = functional.conv2d(maps, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        return normed(state, f"{name}.bn", maps, eps=0.001).clamp(min=0)

    def chain(name: str, maps: Tensor, stride: int = 1) -> Tensor:
        """A branch: one convolution or several; the stride is the last one's."""
        if f"{name}.conv.weight" in state:
            return conv(name, maps, stride)
        number = sum(f"{name}.{i}.conv.weight" in state for i in range(3))
        for i in range(number):
            kernel = state[f"{name}.{i}.conv.weight"].shape[-2:]
            last = stride if i == number - 1 else 1
            padding = (0, 0) if last == 2 else (kernel[0] // 2, kernel[1] // 2)
            maps = conv(f"{name}.{i}", maps, last, padding)
        return maps

    def block(name: str, maps: Tensor, branches: int, scale: float) -> Tensor:
        seen = torch.cat([chain(f"{name}.branch{i}", maps) for i in range(branches)], 1)
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        return maps + scale * functional.conv2d(seen, weight, bias)

    def reduction(name: str, maps: Tensor, branches: int) -> Tensor:
        seen = [chain(f"{name}.branch{i}", maps, stride=2) for i in range(branches)]
        return torch.cat([*seen, functional.max_pool2d(maps, 3, 2)], 1)

    maps = conv("conv2d_2a", conv("conv2d_1a", crops, stride=2))
    maps = functional.max_pool2d(conv("conv2d_2b", maps, padding=(1, 1)), 3, 2)
    maps = conv("conv2d_4b", conv("conv2d_4a", conv("conv2d_3b", maps)), stride=2)
    for i in range(5):
        maps = block(f"repeat_1.{i}", maps, 3, 0.17).clamp(min=0)
    maps = reduction("mixed_6a", maps, 2)
    for i in range(10):
        maps = block(f"repeat_2.{i}", maps, 2, 0.10).clamp(min=0)
    maps = reduction("mixed_7a", maps, 3)
    for i in range(5):
        maps = block(f"repeat_3.{i}", maps, 2, 0.20).clamp(min=0)
    pooled = block("block8", maps, 2, 1.0).mean(dim=(2, 3))
    return normed(state, "last_bn", pooled @ state["last_linear.weight"].T, eps=0.001)


@pytest.fixture(scope="module")
def facenet_state() -> dict[str, Tensor]:
    state = random_state(InceptionResnetV1())
    # The head over the 8,631 training identities of VGGFace2, as in the published file.
    return state | {"logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}


def test_facenet_equals_a_plain_reference(facenet_state, tmp_path) -> None:
    facenet = FaceNet(saved(tmp_path, facenet_state))
    assert sum(p.numel() for p in facenet.parameters()) == 23_482_624
    crops = crops_of(96)  # of any size; smaller is quicker
    embeddings = facenet(crops)
    pixels = (crops + 1) * 127.5
    wanted = plain_facenet(facenet_state, (pixels - 127.5) / 128)
    torch.testing.assert_close(
        embeddings, functional.normalize(wanted, dim=-1), atol=1e-4, rtol=1e-3
    )
    with pytest.raises(
        ValueError, match=r"is no FaceNet .*first: block8\.branch0\.bn\.bias is missing"
    ):
        FaceNet(saved(tmp_path, {"a": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"names no file.*20180402-114759-vggface2\.pt \(111 MB"):
        FaceNet()


def test_facenet_judges(facenet_state, tmp_path) -> None:
    judge = Judge(FaceNet(saved(tmp_path, facenet_state)), load_clip(), load_regressor())
    view = judge.view([crops_of(64)])
    assert view.identity.shape == (2, 512)
    torch.testing.assert_close(view.identity.norm(dim=-1), torch.ones(2))


def test_the_world_s_crops_are_what_they_were() -> None:
    images, recogniser = crops_of(64), load_recogniser("recogniser")
    keypoints = load_regressor()(images).keypoints
    assert torch.equal(face_crops(images, keypoints, recogniser), align(images, keypoints, 48))
    large = torch.nn.functional.interpolate(images, scale_factor=4, mode="bilinear")
    in_half = face_crops(large.bfloat16(), keypoints, recogniser)
    assert torch.equal(in_half, face_crops(large.bfloat16().float(), keypoints, recogniser))


def test_arcface_s_frame_is_insightface_s_template() -> None:
    from insightface.utils import face_align

    torch.testing.assert_close(
        ARCFACE.template * 112 - 0.5, torch.from_numpy(face_align.arcface_dst)
    )
