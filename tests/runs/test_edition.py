"""The edition of the foundation in keys: it is of the weights that a loader reads."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import yaml
from placed import ROOT

from portraitlab.runs import edition as editions
from portraitlab.runs.edition import LOADED, edition
from portraitlab.runs.key import content_hash
from portraitlab.world import pretrained

NAMED = {"load_recogniser": "judge", "load_clip": "judge_clip", "load_regressor": "judge_regressor"}


@pytest.mark.parametrize("loader", sorted(LOADED))
def test_a_loader_reads_what_its_edition_is_of(
    loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    real = pretrained.read_weights

    def noting(name: str, *rest: Any) -> Any:
        read.add(name)
        return real(name, *rest)

    monkeypatch.setattr(pretrained, "read_weights", noting)
    load = getattr(pretrained, loader)
    names = [None, NAMED[loader]] if loader in NAMED else [None]
    for name in names:
        if name is None and "name" in inspect.signature(load).parameters and not LOADED[loader]:
            continue  # it has no default
        expected = set(LOADED[loader] if name is None else (name,))
        if not expected <= editions._listing().keys():
            pytest.skip(f"{loader} reads weights that are not shipped yet")
        read.clear()
        load() if name is None else load(name)
        assert read == expected


def test_every_loader_in_the_configuration_has_an_edition() -> None:
    text = "".join(path.read_text() for path in (ROOT / "conf").rglob("*.yaml"))
    named = {word for word in text.split() if word.startswith("portraitlab.world.pretrained.")}
    loaders = {word.rpartition(".")[2] for word in named} - {"load_face_model"}  # computed
    assert loaders <= LOADED.keys()


def test_a_key_changes_with_the_weights_of_its_models_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = yaml.safe_load((ROOT / "conf/encoder/world.yaml").read_text())

    def key() -> str:
        return content_hash({"encoder": config}, ("encoder",))

    before = key()
    assert edition("load_clip") != edition("load_clip", "judge_clip")
    shipped = editions._listing()
    for name, changes in (("clip", True), ("recogniser", True), ("judge", False)):
        other = {**shipped, name: {**shipped[name], "sha256": "another"}}
        monkeypatch.setattr(editions, "_listing", lambda other=other: other)
        assert (key() != before) is changes
