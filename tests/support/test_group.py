"""Check that a process knows the group in which it was started."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from portraitlab.app.experiment import device_of
from portraitlab.support.devices import check_group, is_rank
from portraitlab.support.processes import environment, local_rank

GPUS = {"accelerator": "gpu", "devices": 4, "num_nodes": 2}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "some", "RANK": "6", "LOCAL_RANK": "2", "WORLD_SIZE": "8"}
SLURM = {
    **{"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "portraitlab"},
    **{"SLURM_PROCID": "6", "SLURM_LOCALID": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "12"},
    "SLURM_STEP_NUM_TASKS": "8",
}


@pytest.fixture(params=[TORCHRUN, SLURM, {**SLURM, **TORCHRUN}], ids=["torchrun", "srun", "both"])
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    found: dict[str, str] = request.param
    return found


def test_a_process_takes_the_device_of_its_place_on_its_node(
    started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert is_rank()
    assert local_rank() == 2
    assert device_of(OmegaConf.create(GPUS)) == torch.device("cuda", 2)


def test_torchrun_s_word_counts_inside_a_job_of_slurm(started: dict[str, str]) -> None:
    group = environment()
    assert group is not None
    assert ("TorchElastic" in type(group).__name__) == ("TORCHELASTIC_RUN_ID" in started)
    assert (group.world_size(), group.global_rank()) == (8, 6)


@pytest.mark.parametrize("step", [None, "1"], ids=["sbatch", "srun of one"])
def test_a_lone_process_in_an_allocation_is_alone(
    step: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": step}
    for name, value in alone.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert environment() is None
    assert not is_rank()
    check_group({**GPUS, "num_nodes": 1})


def test_a_process_that_nothing_started_is_the_first_of_its_machine() -> None:
    assert environment() is None
    assert local_rank() == 0
    check_group({**GPUS, "num_nodes": 1})


def test_a_group_of_another_size_is_refused(started: dict[str, str]) -> None:
    check_group(GPUS)
    for settings in ({**GPUS, "num_nodes": 1}, {**GPUS, "devices": 1}):
        with pytest.raises(ValueError, match=r"8 processes were started, .* start as many"):
            check_group(settings)


def test_several_nodes_are_not_trained_on_by_one() -> None:
    with pytest.raises(ValueError, match=r"num_nodes=2.*torchrun --nnodes=2 --nproc-per-node=4"):
        check_group(GPUS)


def test_nodes_are_a_whole_number() -> None:
    with pytest.raises(
        ValueError, match=r"trainer\.num_nodes=two: a whole number from 1 is needed"
    ):
        check_group({**GPUS, "num_nodes": "two"})
