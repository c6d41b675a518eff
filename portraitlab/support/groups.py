"""The groups of conf/, in one list, which everything reads that treats some groups alike.

A new group is one line here, its line in the defaults of conf/config.yaml, and its folder in conf/.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A group of conf/, by its name in the defaults of conf/config.yaml.

    records: its choice is in records and in W&B's columns. trains: its settings change the trained
    weights, so they are in the key of a run. scores: they change the scores of the same weights.
    idle: they change no figure. names: a run's folder and its label have the choice in their name.
    lists: lists of runs show the choice too. draws: an export needs its components to draw a
    portrait. inside: an export may need them inside those. model: dotted path of a model that sees
    the faces of photos or pictures.
    """

    name: str
    records: bool = False
    trains: bool = False
    scores: bool = False
    idle: bool = False
    names: bool = False
    lists: bool = False
    draws: bool = False
    inside: bool = False
    model: str | None = None


GROUPS = (
    Group("system", records=True),
    Group("scale", records=True, lists=True, inside=True),
    Group("budget", records=True, lists=True),
    Group("backbone", records=True, trains=True, draws=True),
    Group("encoder", records=True, trains=True, draws=True),
    Group("data", records=True, trains=True, scores=True, lists=True),
    Group("fusion", records=True, trains=True, names=True, draws=True),
    Group("cond", records=True, trains=True, names=True, draws=True),
    Group("net", records=True, trains=True, names=True, draws=True),
    Group("select", records=True, scores=True, draws=True),
    Group("objective", records=True, trains=True),
    Group("transform", records=True, trains=True, draws=True),
    Group("sampler", records=True, scores=True, draws=True),
    Group("customise", records=True, scores=True),
    Group("edit", records=True, scores=True),
    Group("task", records=True),
    Group("clip", inside=True),
    Group("face3d", inside=True),
    Group("matting", inside=True),
    Group("image_prompt", inside=True),
    Group("matching", inside=True),
    Group("student"),
    Group("recogniser", trains=True, model="recogniser"),
    Group("finder", model="finder"),
    Group("recogniser@judge.recogniser", model="judge.recogniser"),
    Group("clip_pair", model="judge.clip"),
    Group("dino", model="judge.dino"),
    Group("detector", model="detector"),
    Group("fid_features"),
    Group("further_judges"),
    Group("metrics", scores=True),
    Group("descriptors", scores=True),
    Group("trainer"),
    Group("logger", idle=True),
    Group("launcher", idle=True),
    Group("debug", idle=True),
    Group("canvas"),
    Group("paper"),
    Group("table"),
)
RECORDED = tuple(group.name for group in GROUPS if group.records)
TRAINING = tuple(group.name for group in GROUPS if group.trains)
SCORING = tuple(group.name for group in GROUPS if group.scores)
NAMING = tuple(group.name for group in GROUPS if group.names)
LISTED = tuple(group.name for group in GROUPS if group.lists)
DRAWING = tuple(group.name for group in GROUPS if group.draws)
EXPORTED = tuple(group.name for group in GROUPS if group.draws or group.inside)
# Groups and further top settings that change no figure: folders, launching and logging.
IDLE = frozenset(
    (*(group.name for group in GROUPS if group.idle), "runs", "cache", "group", "jobs", "fresh")
) | {"hydra"}
