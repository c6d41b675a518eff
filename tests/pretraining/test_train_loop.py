"""The loop that trains the foundation: how it goes on, and from what."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from portraitlab.pretraining.loop import Budget, budget_arguments, take_which, train
from portraitlab.pretraining.ship import begin
from portraitlab.world.models.recognisers import ConvNextRecogniser
from portraitlab.world.pretrained import MissingWeights, entry, load_recogniser

SECOND = 1 / 60


def loss(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    return {"error": (model(torch.randn(8, 4, generator=generator)) - 1).square().mean()}


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(0.3 * SECOND, tmp_path / "work", tmp_path, half=False)


def test_more_minutes_resume_saved_work(budget: Budget, capsys) -> None:
    torch.manual_seed(0)
    first = train("judge", nn.Linear(4, 1), loss, budget, 1e-2, average=0.9)
    assert not any(parameter.requires_grad for parameter in first.model.parameters())
    same = train("judge", nn.Linear(4, 1), loss, budget, 1e-2, average=0.9)
    assert same.record == first.record
    assert torch.equal(same.model.weight, first.model.weight)
    more = replace(budget, minutes=0.6 * SECOND, from_shipped=True)
    further = train("judge", nn.Linear(4, 1), loss, more, 1e-2, average=0.9)
    assert first.record["steps"] < further.record["steps"] < entry("judge")["training"]["steps"]
    assert f"resuming from step {first.record['steps']}" in capsys.readouterr().out


def test_without_saved_work_the_shipped_weights_are_gone_on_from(budget: Budget) -> None:
    shipped = entry("judge")["training"]
    from_shipped = replace(budget, from_shipped=True)
    model = begin("judge", ConvNextRecogniser(), from_shipped)
    for name, value in load_recogniser("judge").state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert all(parameter.requires_grad for parameter in model.parameters())
    other = begin("judge", ConvNextRecogniser(), budget)
    assert not torch.equal(next(other.parameters()), next(model.parameters()))

    spent = train("judge", nn.Linear(4, 1), loss, from_shipped, 1e-2)
    assert spent.record["steps"] == shipped["steps"]  # its minutes are over already
    more = replace(from_shipped, minutes=shipped["minutes"] + 0.3 * SECOND)
    further = train("judge", nn.Linear(4, 1), loss, more, 1e-2)
    assert further.record["steps"] > shipped["steps"]


def test_a_model_that_is_not_shipped_cannot_be_gone_on_from(budget: Budget) -> None:
    with pytest.raises(MissingWeights, match="has no model 'jury'; it has autoencoder, canvas"):
        train("jury", nn.Linear(4, 1), loss, replace(budget, from_shipped=True), 1e-2)
    assert not list(budget.work.glob("*.pt"))


def test_which_model_is_trained_is_taken_off_the_command_line(monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["clip", "--which", "judge_clip", "--minutes", "7"])
    assert take_which(("clip", "judge_clip")) == "judge_clip"
    budget = budget_arguments("Train.", minutes=30, seed=1)
    assert (budget.minutes, budget.seed) == (7, 1)


@pytest.mark.parametrize(
    ("given", "named"), [([], "missing"), (["--which"], "missing"), (["--which", "jury"], "jury")]
)
def test_a_model_that_the_script_does_not_train_is_named(monkeypatch, given, named) -> None:
    monkeypatch.setattr("sys.argv", ["clip", *given])
    with pytest.raises(SystemExit, match=f"{named}.*choose clip or judge_clip"):
        take_which(("clip", "judge_clip"))
