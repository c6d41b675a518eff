"""Training repeats itself: from the same seed, after a stop, and after a kill."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from portraitlab.app.cli.clean import unneeded
from portraitlab.app.experiment import Bench
from portraitlab.app.task.train import Train
from portraitlab.data.batches import TrainingBatches
from portraitlab.runs.key import plain
from portraitlab.runs.run import Run, earlier_run
from portraitlab.runs.status import Preempted, read_status
from portraitlab.runs.survey import look
from portraitlab.support.precision import precision_of
from portraitlab.training.build import check_numbers
from portraitlab.training.fitting import fit
from portraitlab.training.losses import read_losses
from portraitlab.training.stopping import StopSignals

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]

OUT_OF_TIME = "+trainer.max_time=00:00:00:00"  # after a step


def test_same_seed_same_numbers_and_another_seed_others(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    def record(name: str, seed: int) -> dict[str, Any]:
        torch.rand(len(name))  # what was drawn before must not matter
        places = (f"runs={tmp_path / name}", f"cache={cache}")
        config = composed("scale=smoke", "logger=none", f"seed={seed}", *places)
        return Train()(config)

    first, again, other = record("first", 0), record("again", 0), record("other", 1)
    assert first["metrics"] == again["metrics"]
    assert first["metrics"] != other["metrics"]
    assert first["bounds"] == other["bounds"]
    weights = [next(tmp_path.glob(f"{name}/*/*/model.safetensors")) for name in ("first", "again")]
    left, right = map(load_file, weights)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_other_people_are_scored_without_training_again(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    common = ("scale=smoke", "logger=none", f"runs={tmp_path}", f"cache={cache}")
    first = Train()(composed(*common))
    (folder,) = (tmp_path / "hifi_portrait").glob("*/")
    names = ("model.safetensors", "training.json", "config.yaml", "metrics.json")
    before = {name: (folder / name).read_bytes() for name in names}
    others = Train()(composed(*common, "data.split=test"))
    assert list((tmp_path / "hifi_portrait").glob("*/")) == [folder]
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert len(list(folder.glob("scores/*/metrics.json"))) == 1
    assert others["key"] == first["key"]
    people = [record["metrics"]["sim_f"]["by_identity"].keys() for record in (first, others)]
    assert people[0].isdisjoint(people[1])


def fit_into(config: DictConfig, folder: Path) -> list[dict[str, Any]]:
    """The losses of one fit into a folder, which goes on from its checkpoint where there is one."""
    run = Run(folder, "key", "scoring")
    bench = Bench.of(config)
    photos = bench.data.train_photos(bench.parts.frozen)
    batches = TrainingBatches(photos, refs=4, batch_size=2, steps=4, seed=0)
    assert fit(config, run, bench.parts, batches) is not None
    bench.save(run)
    return read_losses(run.losses)


@pytest.mark.parametrize("more", [(), ("ema_decay=0.9", "gradient_checkpointing=true")])
def test_stop_and_resume_gives_the_losses_of_never_stopping(
    composed: Compose, cache: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    common = ("scale=smoke", f"cache={cache}", "metrics=none", *more)
    straight = fit_into(composed(*common), tmp_path / "straight")
    with pytest.raises(Preempted):
        fit_into(composed(*common, OUT_OF_TIME), tmp_path / "resumed")
    stopped = read_losses(tmp_path / "resumed" / "metrics.jsonl")
    resumed = fit_into(composed(*common), tmp_path / "resumed")
    assert [line["step"] for line in stopped] == [1]
    assert [line["step"] for line in resumed] == [1, 2, 3, 4]
    assert resumed == straight
    left, right = (
        load_file(tmp_path / name / "model.safetensors") for name in ("straight", "resumed")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)
    # Killed when all was trained and nothing saved, it has the same to save.
    fit_into(composed(*common), tmp_path / "resumed")
    again = load_file(tmp_path / "resumed" / "model.safetensors")
    assert all(torch.equal(left[name], again[name]) for name in left)


def test_a_signal_in_the_last_step_loses_no_step(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    config = composed("scale=smoke", f"cache={cache}", "metrics=none", "scale.checkpoint_every=3")
    straight = fit_into(config, tmp_path / "straight")
    signals = StopSignals()

    class Mirror:
        def line(self, line: dict[str, Any]) -> None:
            if line["step"] == 4:
                signals.caught = signal.SIGTERM

    run, bench = Run(tmp_path / "resumed", "key", "scoring"), Bench.of(config)
    photos = bench.data.train_photos(bench.parts.frozen)
    batches = TrainingBatches(photos, refs=4, batch_size=2, steps=4, seed=0)
    with pytest.raises(Preempted):
        fit(config, run, bench.parts, batches, Mirror(), signals)
    steps = [int(path.name.split("-")[1]) for path in run.checkpoints.glob("*.ckpt")]
    assert sorted(steps) == [3, 4]
    assert fit_into(config, run.folder) == straight
    left, right = (
        load_file(tmp_path / name / "model.safetensors") for name in ("straight", "resumed")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_training_out_of_time_is_preempted_and_the_same_command_resumes_it(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    common = ("scale=smoke", "logger=none", "metrics=none", f"runs={tmp_path}", f"cache={cache}")
    config = composed(*common, OUT_OF_TIME)
    run = Run.of(plain(config))
    for saved in ([1], [1, 2], [2, 3]):  # of step 2, where one is due, there is one file
        with pytest.raises(Preempted) as stop:
            Train()(config)
        assert stop.value.code == 128 + signal.SIGALRM
        status = read_status(run.folder)
        assert status is not None
        assert (status["state"], status["error"]) == ("preempted", "stopped by trainer.max_time")
        assert status["step"] == saved[-1]
        steps = [int(path.name.split("-")[1]) for path in run.checkpoints.glob("*.ckpt")]
        assert sorted(steps) == saved
        assert not unneeded(look(run.folder))
        assert not run.weights.exists()
        assert run.record() is None
    assert Train()(config)["steps"] == 4  # the last step is the end
    assert [line["step"] for line in read_losses(run.losses)] == [1, 2, 3, 4]


def test_an_average_is_another_run_and_less_memory_is_not(composed: Compose) -> None:
    def key(*overrides: str) -> str:
        return Run.of(plain(composed("scale=smoke", *overrides))).key

    assert key("gradient_checkpointing=true") == key("ema_decay=null") == key()
    assert len({key(), key("ema_decay=0.9"), key("ema_decay=0.99")}) == 3
    earlier = plain(composed("scale=smoke"))
    del earlier["ema_decay"]  # the configuration of a run from before there was one
    assert Run.of(earlier).key == key()


@pytest.mark.parametrize("decay", ["1", "0.0", "1.5", "often"])
def test_a_decay_that_is_none_is_refused(composed: Compose, decay: str) -> None:
    with pytest.raises(
        ValueError, match=r"ema_decay=.*above 0 and below 1 is needed, such as 0\.9999"
    ):
        check_numbers(composed(f"ema_decay={decay}"))


def test_a_training_draws_and_encodes_its_control_images_before_the_first_step(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    config = composed("scale=smoke", f"cache={cache}", "metrics=none")
    bench = Bench.of(config)
    photos = bench.data.train_photos(bench.parts.frozen)
    batches = TrainingBatches(photos, refs=4, batch_size=2, steps=4, seed=0)
    model, drawn, given = bench.parts.model, [], []
    model.cond.register_forward_hook(lambda cond, inputs, image: drawn.append(len(image)))
    model.net.register_forward_pre_hook(lambda net, inputs: given.append(inputs[2].drawing.clone()))
    assert fit(config, Run(tmp_path, "key", "scoring"), bench.parts, batches) is not None
    assert len(drawn) == 1
    half = precision_of(config.trainer) == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        alone = [model.condition(batches[step]).drawing for step in range(4)]
    torch.testing.assert_close(given, alone, rtol=0, atol=1e-4)


def test_a_training_starts_from_an_earlier_run(
    composed: Compose, cache: Path, tmp_path: Path
) -> None:
    common = ("scale=smoke", "logger=none", "metrics=none", f"runs={tmp_path}", f"cache={cache}")
    first = Run.of(plain(composed(*common)))
    Train()(composed(*common))
    still = ("optimiser.learning_rate=0", "optimiser.zero_learning_rate=0")
    by_folder = composed(*common, *still, f"init={first.folder}")
    by_key = composed(*common, *still, f"init='{first.key}'")
    run = Run.of(plain(by_folder))
    assert run == Run.of(plain(by_key))
    assert run.key != Run.of(plain(composed(*common, *still))).key
    Train()(by_key)
    left, right = (load_file(each.weights) for each in (first, run))
    assert all(torch.equal(left[name], right[name]) for name in left)
    other = composed(*common, "fusion=concat", f"init={first.folder}")
    with pytest.raises(ValueError, match="another fusion or net"):
        Train()(other)


def test_a_start_that_is_no_run_is_refused(composed: Compose, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not end in a run's key"):
        earlier_run("best", tmp_path)
    nowhere = composed("scale=smoke", "logger=none", f"runs={tmp_path}", "init='0123abcd'")
    with pytest.raises(ValueError, match="0123abcd"):
        Train()(nowhere)
