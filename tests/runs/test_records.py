"""Tables, pictures and records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from portraitlab.runs.key import content_hash
from portraitlab.runs.records import record_table, sweep_table
from portraitlab.runs.run import NoRun, Run
from portraitlab.scoring.pictures import grid, save, to_image
from portraitlab.support.files import write_json
from portraitlab.support.groups import SCORING, TRAINING
from portraitlab.support.table import Table


def metric(value: float | None, error: float | None = 0.01, up: bool = True) -> dict[str, Any]:
    return {"value": value, "error": error, "higher_is_better": up}


def record(value: float, faceless: int = 0) -> dict[str, Any]:
    return {
        "metrics": {"sim_f": metric(value), "exp": metric(None, None, up=False)},
        "bounds": {"another identity": {"sim_f": metric(0.01), "exp": metric(1.5, None, False)}},
        "faceless": faceless,
        "images": 9,
    }


def test_a_record_is_shown_beside_its_bounds() -> None:
    table = record_table(record(0.312, faceless=2))
    assert list(table.columns) == ["", "sim_f ↑", "exp ↓"]
    assert list(table.rows) == [
        ["this run", "0.312 ±0.010", "not measured"],
        ["another identity", "0.010 ±0.010", "1.500"],
    ]
    assert "2 of 9" in table.notes[0]


def test_a_sweep_shows_varied_settings_and_failures() -> None:
    table = sweep_table(
        [
            ({"scale": "smoke", "fusion": "refiner"}, record(0.4)),
            ({"scale": "smoke", "fusion": "concat"}, "failed: the loss is not finite"),
        ]
    )
    assert list(table.columns) == ["fusion", "sim_f ↑", "exp ↓"]
    assert table.rows[0] == ["refiner", "0.400 ±0.010", "not measured"]
    assert table.rows[1] == ["concat", "failed", "failed"]
    assert table.rows[2][0] == "another identity"
    assert "concat failed: the loss is not finite" in table.notes


def test_bounds_that_differ_between_rows_are_left_to_the_records() -> None:
    other = record(0.4)
    other["bounds"]["another identity"]["sim_f"] = metric(0.5)
    rows = [({"data.split": "test"}, record(0.4)), ({"data.split": "development"}, other)]
    assert len(sweep_table(rows).rows) == 2


def test_a_sweep_in_which_all_fails_is_still_a_table() -> None:
    table = sweep_table([({"seed": "0"}, "no weights")])
    assert list(table.rows) == [["0"]]
    assert "no weights" in table.markdown()


def test_markdown_and_csv_keep_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(["a|b", "c"], [["1,5", "x" * 200]], ["below"])
    assert table.markdown().splitlines()[0] == "| a\\|b | c |"
    assert table.markdown().endswith("below\n")
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a|b", "c"], ["1,5", "x" * 200]]
    table.show()
    assert "x" * 200 in capsys.readouterr().out


def test_a_bold_cell_is_shown_without_its_marks(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(["a", "b"], [["**-0.1 (-5.0)**", "2 ** 3"]])
    assert "| **-0.1 (-5.0)** | 2 ** 3 |" in table.markdown()
    table.show()
    shown = capsys.readouterr().out
    assert "-0.1 (-5.0)" in shown
    assert "**-0.1" not in shown
    assert "2 ** 3" in shown


def test_the_grid_has_a_place_for_each_picture(tmp_path: Path) -> None:
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 8, 8)
    picture = grid(["left", "right"], [[red, None], [None, red * 9]])
    assert picture.getpixel((20, 40)) == (255, 0, 0)
    assert picture.getpixel((160, 40)) == (255, 255, 255)
    assert picture.getpixel((160, 170)) == (255, 0, 0)
    save(picture, tmp_path / "new" / "grid.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_pixels_are_rounded_and_clipped() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(3, 1, 5)
    assert [to_image(values).getpixel((x, 0))[0] for x in range(5)] == [0, 0, 128, 255, 255]


SETTINGS = {
    **{part: {"_target_": part} for part in (*TRAINING, *SCORING, "optimiser", "judge")},
    "data": {"_target_": "data", "cache": "here", "workers": 2},
    "trainer": {"max_steps": 3, "gradient_clip_val": 1.0, "precision": "32-true", "devices": 1},
    "refs": 4,
    "score_refs": 4,
    "seed": 0,
    "batch_size": 2,
    "prompt_dropout": 0.1,
    "choices": {"system": "paper", "fusion": "refiner", "cond": "landmarks", "net": "hifi_net"},
}


def run_in(folder: Path, **changes: Any) -> Run:
    return Run.of({**SETTINGS, "runs": str(folder), **changes})


def test_a_run_is_named_by_its_training(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert run.folder == tmp_path / "paper" / f"refiner-landmarks-hifi_net-r4-s0-{run.key}"
    assert run_in(tmp_path / "elsewhere").key == run.key
    assert run_in(tmp_path, trainer={**SETTINGS["trainer"], "devices": 2}).key == run.key
    assert run_in(tmp_path, data={**SETTINGS["data"], "cache": "there"}).key == run.key
    assert run_in(tmp_path, data={**SETTINGS["data"], "identities": 7}).key != run.key
    assert run_in(tmp_path, seed=1).key != run.key
    assert run_in(tmp_path, optimiser={"learning_rate": 1}).key != run.key
    assert run_in(tmp_path, trainer={**SETTINGS["trainer"], "max_steps": 4}).key != run.key


def test_another_scoring_is_another_record_of_the_same_run(tmp_path: Path) -> None:
    run, other = run_in(tmp_path), run_in(tmp_path, sampler={"steps": 8})
    assert run.key == other.key
    assert run.record_folder == other.record_folder == run.folder
    written = {**record(0.3), "scoring": run.scoring}
    write_json(run.folder / "metrics.json", written)
    assert run.record() == written
    assert other.record() is None
    assert other.record_folder == run.folder / "scores" / other.scoring


def test_matching_is_another_scoring_by_descriptors_angles_and_pixels(tmp_path: Path) -> None:
    views = {"degrees": [10], "shares": [1.0]}
    net = {"_target_": "portraitlab.scoring.descriptors.matching_net.MatchingNet", "timestep": 261}
    runs = [
        run_in(tmp_path, descriptors=net),
        run_in(tmp_path, descriptors=net, task=views),
        run_in(tmp_path, descriptors=net, task={**views, "degrees": [20]}),
        run_in(tmp_path, descriptors=net, task={**views, "shares": [0.2]}),
        run_in(tmp_path, descriptors={**net, "timestep": 100}, task=views),
    ]
    assert {run.key for run in runs} == {runs[0].key}
    assert len({run.scoring for run in runs}) == 5
    # Records of portraits are older than descriptors.
    older = {name: value for name, value in SETTINGS.items() if name != "descriptors"}
    assert Run.of({**older, "runs": str(tmp_path)}).scoring == runs[0].scoring


@pytest.mark.parametrize(
    "name",
    [
        *("score_identities", "score_photos", "split", "targets", "targets_of", "judges"),
        *("noise_seeds", "real_photos"),
    ],
)
def test_who_is_scored_and_how_often_is_no_part_of_the_training(tmp_path: Path, name: str) -> None:
    run = run_in(tmp_path)
    other = run_in(tmp_path, data={**SETTINGS["data"], name: "other"})
    assert other.folder == run.folder
    assert other.scoring != run.scoring


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_how_trained_weights_are_merged_is_no_part_of_the_training(
    tmp_path: Path, name: str
) -> None:
    plain = {"_target_": "net", "ratio": 0.1}
    usual = run_in(tmp_path, net={**plain, name: 1.0})
    other = run_in(tmp_path, net={**plain, name: 0.27})
    assert other.folder == usual.folder
    assert other.scoring != usual.scoring
    assert usual == run_in(tmp_path, net=plain)
    assert run_in(tmp_path, net={**plain, "ratio": 0.2}).key != usual.key


def test_the_hash_follows_content_not_order() -> None:
    left, right = {"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}
    assert content_hash(left, ("a",)) == content_hash(right, ("a",))
    assert content_hash(left, ("a.x",)) != content_hash(right, ("a.y",))


def test_nothing_half_written_is_left_or_taken(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"value": float("nan")})
    assert json.loads(path.read_text()) == {"value": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.json"]


def test_scoring_without_a_training_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NoRun, match=r"no trained run in .*model.safetensors.*task=train"):
        run_in(tmp_path).require_weights()
    with pytest.raises(NoRun, match=r"no trained run in .*nowhere"):
        Run.of({**SETTINGS, "runs": str(tmp_path)}, "nowhere").require_weights()
