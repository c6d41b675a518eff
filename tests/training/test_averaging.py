"""The average of what is trained, and what a checkpoint holds beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sharing
import torch
from torch import Tensor

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.training.averaging import Averaging
from portraitlab.training.checkpoints import latest
from portraitlab.training.module import PortraitModule


@pytest.fixture
def model(tiny_backbone) -> PortraitModel:
    backbone = tiny_backbone()
    net = Adapter(backbone, control=False, identity=True)
    return PortraitModel(backbone, GlobalFusion(10, 12, 16), KeypointCond(), net)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PortraitModule]:
    folder = tmp_path_factory.mktemp("straight")
    return folder, sharing.train(folder)


def read(checkpoint: Path) -> dict:
    return torch.load(checkpoint, weights_only=True)


def bytes_of(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value
    return sum(map(bytes_of, parts)) if isinstance(value, dict | list) else 0


def test_the_average_is_the_papers_with_a_beginning(model: PortraitModel) -> None:
    averaging, parameters = Averaging(model, decay=0.5), model.trained_parameters()
    slow = [parameter.detach().clone() for parameter in parameters]
    for step in range(1, 20):
        for parameter in parameters:
            parameter.data += torch.randn_like(parameter)
        averaging.on_train_batch_end(None, None)
        decay = 0.0 if step == 1 else min(0.5, step / (9 + step))
        slow = [
            decay * old + (1 - decay) * new.detach()
            for old, new in zip(slow, parameters, strict=True)
        ]
    averaging.finish()
    torch.testing.assert_close([each.detach() for each in parameters], slow)


def test_nothing_frozen_is_averaged_or_moved(model: PortraitModel) -> None:
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    averaging = Averaging(model, decay=0.9)
    assert len(averaging.state_dict()["shadow_params"]) == len(model.trained_parameters())
    averaging.on_train_batch_end(None, None)
    averaging.finish()
    after = model.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_training_ends_as_its_average_and_resumes_from_its_weights(straight) -> None:
    saved = read(latest(straight[0]))
    averages = saved["callbacks"]["Averaging"]["shadow_params"]
    ended = straight[1].model.trained_parameters()
    assert all(torch.equal(one, two) for one, two in zip(averages, ended, strict=True))
    weights = saved["state_dict"]
    assert not all(torch.equal(weights[n], v) for n, v in straight[1].state_dict().items())


def test_an_average_is_resumed_exactly(straight, tmp_path: Path) -> None:
    (half,) = straight[0].glob("step-000002-*.ckpt")
    resumed = sharing.train(tmp_path, resume=half)
    torch.testing.assert_close(resumed.state_dict(), straight[1].state_dict(), rtol=0, atol=0)
    *_, last = sharing.losses(straight[0])
    assert sharing.losses(tmp_path)[-1] == last


def test_a_checkpoint_has_four_copies_of_the_trained_weights_and_its_position(straight) -> None:
    """Weights, Adam's two moments and the average, in single precision."""
    path, module = latest(straight[0]), straight[1]
    saved, trained = read(path), module.model.trained_parameters()
    size = sum(4 * parameter.numel() for parameter in trained)
    assert saved["state_dict"].keys() == module.model.trained_state_dict().keys()
    assert bytes_of(saved["state_dict"]) == size
    (adam,) = saved["optimizer_states"]
    assert len(adam["state"]) == len(trained)
    assert bytes_of(adam["state"]) == 2 * size + 4 * len(trained)  # and the steps of each
    assert bytes_of(saved["callbacks"]) == size
    assert saved["global_step"] == sharing.STEPS
    # Nothing else of any size; the file has a record's head for each of its tensors.
    assert bytes_of(saved) == 4 * size + 4 * len(trained)
    assert path.stat().st_size < 4 * size + 1000 * 4 * len(trained)
