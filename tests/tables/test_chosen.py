"""Check which rows and seeds of a table a command runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import PAPER, declare

from portraitlab.tables.choosing import choose


def test_all_rows_and_seeds_are_jobs(tmp_path: Path) -> None:
    table = declare(tmp_path)
    jobs = choose(table, ["table=x"])
    assert [(job.row.name, job.seed) for job in jobs] == [
        (row, seed) for row in PAPER for seed in (0, 1, 2)
    ]
    assert jobs[4].overrides == (
        *("table=x", "system=hifi_portrait", "budget=full"),
        *("fusion=middle", "seed=1"),
    )


def test_settings_of_the_rows_select_and_others_apply_to_all(tmp_path: Path) -> None:
    table = declare(tmp_path)
    jobs = choose(table, ["table=x", "fusion=best,worst", "seed=1", "budget=default", "jobs=2"])
    assert [(job.row.name, job.seed) for job in jobs] == [("worst", 1), ("best", 1)]
    assert jobs[0].overrides == (
        *("table=x", "budget=default", "jobs=2", "system=hifi_portrait"),
        *("fusion=worst", "seed=1"),
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fusion=other", r"fusion=other: no row of table=.* there are fusion=worst, fusion=middle"),
        ("budget=full,default", "with table=.* only seed and .*fusion.* take several values"),
        ("seed=some", "seed=some: a seed is a whole number"),
    ],
)
def test_values_of_no_row_are_refused(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(declare(tmp_path), ["table=x", argument])
