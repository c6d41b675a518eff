import csv
from dataclasses import replace

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import Dataset

from portraitlab.data.loader import PortraitData
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.training.module import NonFiniteLoss, PortraitModule, step_generator

STEPS = 4


class Batches(Dataset):
    """The batch of each step from a seed of its own, as TrainingBatches gives them."""

    batch_size, steps = 2, STEPS

    def __init__(self, make, poison: int | None) -> None:
        self.make, self.poison = make, poison

    def __getitem__(self, step: int):
        batch = self.make(seed=step, batch=2)
        if step == self.poison:
            batch = replace(batch, latents=batch.latents * float("nan"))
        return batch


@pytest.fixture
def train(tiny_backbone, tiny_batch, tmp_path):
    def train(steps=STEPS, seed=0, resume=None, poison=None, trainer=None, **settings):
        torch.manual_seed(0)
        backbone = tiny_backbone()
        torch.manual_seed(1)
        fusion = FaceRefiner(10, 12, backbone.text_dim, learnable_tokens=2, layers=1, heads=2)
        model = PortraitModel(backbone, fusion, KeypointCond(), HiFiNet(backbone, True, True))
        settings = {"learning_rate": 1e-2, "steps": STEPS, "warmup_steps": 2, **settings}
        module = PortraitModule(
            model, Objective({"noise": NoiseLoss()}), seed=seed, schedule="cosine", **settings
        )
        trainer = lightning.Trainer(
            **{"log_every_n_steps": 1, "logger": False, **(trainer or {})},
            accelerator="cpu",
            max_steps=steps,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        data = PortraitData(Batches(tiny_batch, poison))
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        return trainer, module

    return train


def same(one, other) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_zero_convolutions_have_a_rate_of_their_own(train) -> None:
    trainer, module = train(steps=2, zero_learning_rate=0.5)
    zero, others = trainer.optimizers[0].param_groups[1], trainer.optimizers[0].param_groups[0]
    assert zero["initial_lr"] == 0.5
    assert others["initial_lr"] == 1e-2
    assert zero["lr"] / others["lr"] == pytest.approx(50)
    known = {id(parameter) for parameter in zero["params"]}
    assert known == {id(parameter) for parameter in module.model.net.starting_at_zero()}
    everything = [*zero["params"], *others["params"]]
    assert len({id(parameter) for parameter in everything}) == len(everything)
    assert {id(p) for p in everything} == {id(p) for p in module.model.trained_parameters()}


def test_training_moves_what_is_trained_and_nothing_else(train, tiny_backbone) -> None:
    torch.manual_seed(0)
    untrained = tiny_backbone().state_dict()
    _, module = train()
    assert same(module.model.backbone.state_dict(), untrained)
    _, barely = train(steps=1)
    after, before = module.state_dict(), barely.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in after)


def test_same_seed_same_numbers(train) -> None:
    first = train()[1].state_dict()
    assert same(train()[1].state_dict(), first)
    assert not same(train(seed=1)[1].state_dict(), first)


def test_stop_and_resume_gives_the_numbers_of_never_stopping(train, tmp_path) -> None:
    whole, module = train()
    stopped, _ = train(steps=2)
    checkpoint = tmp_path / "half.ckpt"
    stopped.save_checkpoint(checkpoint)
    resumed, other = train(resume=checkpoint)
    assert resumed.global_step == whole.global_step == STEPS
    torch.testing.assert_close(other.state_dict(), module.state_dict(), atol=0, rtol=0)
    assert resumed.callback_metrics["train/loss"] == whole.callback_metrics["train/loss"]


def test_a_logger_gets_the_losses_of_every_nth_step_also_after_a_stop(train, tmp_path) -> None:
    def logged(name: str, every: int, **settings) -> dict[str, str]:
        logger = CSVLogger(tmp_path, name=name, version="", flush_logs_every_n_steps=1)
        train(trainer={"log_every_n_steps": every, "logger": logger}, **settings)
        path = tmp_path / name / "metrics.csv"
        rows = csv.DictReader(path.read_text().splitlines()) if path.exists() else []
        return {row["step"]: row["train/loss"] for row in rows}

    each = logged("each", every=1)
    assert list(each) == ["0", "1", "2", "3"]
    assert logged("second", every=2) == {step: each[step] for step in ("1", "3")}
    assert logged("third", every=3) == {"2": each["2"]}
    assert logged("never", every=0) == {}
    stopped, _ = train(steps=1)
    stopped.save_checkpoint(tmp_path / "first.ckpt")
    resumed = logged("resumed", every=2, resume=tmp_path / "first.ckpt")
    assert resumed == {step: each[step] for step in ("1", "3")}


def test_checkpoints_hold_what_is_trained_and_load_weights_only(train, tmp_path) -> None:
    trainer, module = train(steps=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == set(module.model.trained_state_dict())
    assert not any(name.startswith("backbone") for name in saved)


def test_a_loss_that_is_no_number_stops_with_its_step_and_terms(train) -> None:
    with pytest.raises(NonFiniteLoss, match=r"not finite at step 2 \(loss=nan, noise=nan\)"):
        train(poison=2)


def test_the_learning_rate_warms_up_and_decays(train) -> None:
    _, module = train(steps=1, warmup_steps=2)
    factors = [module.learning_rate_factor(step) for step in range(STEPS + 1)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
    module.schedule = "constant"
    assert [module.learning_rate_factor(step) for step in range(3)] == [0.5, 1.0, 1.0]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optimiser\.schedule=linear: choose one of"):
        PortraitModule(None, None, learning_rate=1.0, steps=1, schedule="linear")
    with pytest.raises(ValueError, match=r"budget\.steps=0: a whole number from 1"):
        PortraitModule(None, None, learning_rate=1.0, steps=0)


def test_step_generators_differ_by_seed_and_step() -> None:
    draws = {
        torch.rand(1, generator=step_generator(seed, step)).item()
        for seed in range(5)
        for step in range(5)
    }
    assert len(draws) == 25
    one, other = step_generator(1, 2), step_generator(1, 2)
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


class GradientNorms(lightning.Callback):
    """Notes the norm of all gradients that each optimiser step has followed."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        found = [gradient for gradient in gradients if gradient is not None]
        if found:
            self.norms.append(float(torch.nn.utils.get_total_norm(found)))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(train, precision) -> None:
    free, clipped = GradientNorms(), GradientNorms()
    train(trainer={"precision": precision, "callbacks": [free]})
    train(trainer={"precision": precision, "callbacks": [clipped], "gradient_clip_val": 1e-3})
    assert min(free.norms) > 2e-3
    assert max(clipped.norms) < 1.001e-3


def test_another_way_of_clipping_is_refused(train) -> None:
    with pytest.raises(ValueError, match="gradient_clip_algorithm is 'value'"):
        train(trainer={"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"})
