"""The ladder and the resolution of a test set, from committed records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from portraitlab.tables.document import part_command
from portraitlab.tables.ladder import ladder_table
from portraitlab.tables.published import published_table
from portraitlab.tables.resolution import resolution_table


def metric(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "error": 0.01, "higher_is_better": True, **more}


def write(folder: Path, name: str, value: float) -> None:
    record = {
        **{"scoring": "0123abcd", "images": 2, "faceless": 0},
        "metrics": {"sim_f": metric(value), "fid": metric(1.0)},
        "bounds": {"another identity": {"sim_f": metric(0.0), "fid": metric(2.0)}},
    }
    (folder / name).write_text(json.dumps(record))


def test_the_ladder_shows_records_and_bounds_in_the_order_declared(tmp_path: Path) -> None:
    write(tmp_path, "low.json", 0.2)
    write(tmp_path, "high.json", 0.5)
    (tmp_path / "ladder.yaml").write_text(
        """
metrics: [sim_f]
rungs:
  stranger: {record: low.json, bound: another identity}
  short: {record: low.json}
  long: {record: high.json}
"""
    )
    assert ladder_table(tmp_path).splitlines() == [
        "|  | sim_f ↑ |",
        "| --- | --- |",
        "| stranger | 0.000 ±0.010 |",
        "| short | 0.200 ±0.010 |",
        "| long | 0.500 ±0.010 |",
    ]


@pytest.mark.parametrize(
    ("rung", "message"),
    [
        ("{record: none.json}", "rung 'first' needs .*none.json"),
        ("{record: low.json, bound: nobody}", "needs the bound 'nobody'; .* has another identity"),
    ],
)
def test_a_rung_that_is_not_there_is_named(tmp_path: Path, rung: str, message: str) -> None:
    write(tmp_path, "low.json", 0.2)
    (tmp_path / "ladder.yaml").write_text(f"metrics: [sim_f]\nrungs: {{first: {rung}}}")
    with pytest.raises(ValueError, match=message):
        ladder_table(tmp_path)


def test_a_document_may_have_two_parts_of_a_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "page.md"
    first = "<!-- results -->\nold\n<!-- end of results -->\n"
    second = "<!-- full -->\n<!-- end of full -->\n"
    document.write_text(first + second)
    for more, expected in (
        (["--part", "full"], first + second.replace("full -->\n<", "full -->\nnew\n<")),
        ([], first.replace("old", "new") + second.replace("full -->\n<", "full -->\nnew\n<")),
    ):
        monkeypatch.setattr(
            "sys.argv", ["published", str(tmp_path), "--document", str(document), *more]
        )
        part_command("a description", "results", lambda source: "new\n")
        assert document.read_text() == expected


def scored(fusion: str, seed: int = 0, **by_identity: float) -> dict[str, Any]:
    values = {"sim_f": metric(0.0, by_identity=by_identity)}
    return {"fusion": fusion, "cond": "landmarks", "seed": seed, "metrics": values}


def test_rows_are_compared_identity_by_identity_over_their_seeds() -> None:
    records = [
        scored("refiner", a=0.5, b=0.7, c=0.1),
        scored("refiner", seed=1, a=0.3, b=0.9),
        scored("concat", a=0.3, b=0.55, d=0.8),
        scored("concat", seed=1, a=0.2, b=0.55),
    ]
    (line,) = resolution_table(records, "sim_f").rows
    # means of refiner: a 0.4, b 0.8; of concat: 0.25, 0.55; differences 0.15 and 0.25
    error = math.sqrt(0.005 / 2)
    assert line == [
        "refiner, landmarks − concat, landmarks", "2", "+0.200", "+0.175 to +0.225",
        f"{error:.3f}", str(math.ceil(2 * (2 * error / 0.02) ** 2)),
    ]  # fmt: skip


def test_single_rows_and_unlike_records_are_refused() -> None:
    refiner = scored("refiner", a=0.1, b=0.2)
    with pytest.raises(ValueError, match="1 row cannot be compared"):
        resolution_table([refiner], "sim_f")
    with pytest.raises(ValueError, match="share 1 identities"):
        resolution_table([refiner, scored("concat", a=0.3)], "sim_f")
    with pytest.raises(ValueError, match=r"have the seeds \[0\] and \[1\]"):
        resolution_table([refiner, scored("concat", seed=1, a=0.1, b=0.2)], "sim_f")
    with pytest.raises(ValueError, match="has two records of seed 0"):
        resolution_table([refiner, scored("refiner", a=0.1, b=0.2)], "sim_f")


def test_a_table_has_its_metrics_and_bounds_have_theirs(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    record = {
        **{"scoring": "0123abcd", "images": 2, "faceless": 0},
        "fusion": "concat",
        "metrics": {"sim_f": metric(0.4), "exp": metric(1.0), "fid": metric(2.0)},
        "bounds": {"regressor against truth": {"exp": metric(0.5)}},
    }
    (tmp_path / "results" / "concat.json").write_text(json.dumps(record))
    (tmp_path / "table.yaml").write_text(
        "metrics: [sim_f, exp]\nrows: {concat: {choices: {fusion: concat}, paper: {exp: 18}}}"
    )
    assert published_table(tmp_path).splitlines() == [
        "|  | sim_f ↑ | exp ↑ |",
        "| --- | --- | --- |",
        "| concat | 0.400 ±0.010 | 1.000 ±0.010 |",
        "| *the paper, full size* |  | 18 |",
        "| *regressor against truth* |  | 0.500 ±0.010 |",
    ]
