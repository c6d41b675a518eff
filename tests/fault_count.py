"""Counts the faults that tests put into real runs, for the table in the docs.

    python -m pytest -n 0 -p tests.fault_count -m fault --faults docs/sweeps.md

A test says what it injects with `@pytest.mark.fault(what, lost)`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from portraitlab.support.table import Table
from portraitlab.tables.document import write_part


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=Path, help="document whose table of faults is written")


class FaultCount:
    """Counts of the injections of each fault, and of those that the run survived."""

    def __init__(self) -> None:
        self.injected: Counter[tuple[str, str]] = Counter()
        self.survived: Counter[tuple[str, str]] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]):
        report: pytest.TestReport = yield
        if report.when == "call" and not report.skipped:
            for marker in item.iter_markers("fault"):
                fault = (marker.args[0], marker.args[1])
                self.injected[fault] += 1
                self.survived[fault] += report.passed
        return report

    def table(self) -> Table:
        rows = [
            [what, str(count), str(self.survived[what, lost]), lost]
            for (what, lost), count in self.injected.items()
        ]
        return Table(["fault", "injected", "survived", "what is lost"], rows)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--faults"):
        config.pluginmanager.register(FaultCount(), "fault_count")


def pytest_unconfigure(config: pytest.Config) -> None:
    count = config.pluginmanager.get_plugin("fault_count")
    if count is not None:
        write_part(config.getoption("--faults"), "faults", count.table().markdown())
