"""The groups of conf/ whose choices describe a run, in one list.

Keys, records, labels, exports and tests read this list. A new group is one line here, its line in
the defaults of conf/config.yaml, and its folder in conf/.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A group of conf/, whose choice is in records and in W&B's columns.

    trains: its settings change the trained weights, so they are in the key of a run. scores: they
    change the scores of the same weights. draws: an export needs them to draw a portrait. names: a
    run's folder and its label have the choice in their name.
    """

    name: str
    trains: bool = False
    scores: bool = False
    draws: bool = False
    names: bool = False


GROUPS = (
    Group("system"),
    Group("scale"),
    Group("budget"),
    Group("backbone", trains=True, draws=True),
    Group("encoder", trains=True, draws=True),
    Group("data", trains=True, scores=True),
    Group("fusion", trains=True, draws=True, names=True),
    Group("cond", trains=True, draws=True, names=True),
    Group("net", trains=True, draws=True, names=True),
    Group("select", scores=True, draws=True),
    Group("objective", trains=True),
    Group("transform", trains=True, draws=True),
    Group("sampler", scores=True, draws=True),
    Group("customise", scores=True),
    Group("edit", scores=True),
    Group("task"),
)
TRAINING = tuple(group.name for group in GROUPS if group.trains)
SCORING = tuple(group.name for group in GROUPS if group.scores)
DRAWING = tuple(group.name for group in GROUPS if group.draws)
NAMING = tuple(group.name for group in GROUPS if group.names)
