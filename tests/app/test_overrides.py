"""Mistyped overrides are answered with the likely ones, and before anything is built."""

from __future__ import annotations

import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from placed import choices

from portraitlab.app.overrides import check_overrides, explained
from portraitlab.support.errors import UserError
from portraitlab.support.paths import CONF


def answer(*overrides: str) -> str:
    """Return the message that run.py ends with; empty where it composes."""
    try:
        check_overrides(overrides)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", list(overrides))
    except HydraException as error:
        return explained(error, overrides)
    finally:
        GlobalHydra.instance().clear()
    return ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("fusoin=refiner", "did you mean fusion?"),
        ("+lr=1e-4", "did you mean optimiser.learning_rate?"),
        ("learning_rate=1e-4", "did you mean optimiser.learning_rate?"),
        ("optimizer.learning_rate=1e-4", "did you mean optimiser.learning_rate?"),
        ("optimiser.leraning_rate=1e-4", "did you mean optimiser.learning_rate?"),
        ("+optimiser.rate=1e-4", "did you mean optimiser"),
        ("++sede=1", "did you mean seed?"),
        ("fusion.layerz=3", "did you mean fusion.layers?"),
        ("fusion=refinr", "did you mean fusion=refiner?"),
        ("system=facesnip", "did you mean system=facesnap?"),
        ("fusion=null", "give fusion=none"),
        ("cond=null", "give cond=none"),
        ("sampler=null", "null is not a choice"),
        ("xyzzy=1", "--help lists all"),
        ("group", "group is not understood: give NAME=VALUE"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_setting(typed: str, meant: str) -> None:
    message = answer(typed)
    assert meant in message
    assert "To append" not in message


@pytest.mark.parametrize("value", ["ph=oto", "out (1)", "it's", "a#b (", "{", "x,y]", 'a"b('])
def test_a_value_that_hydra_cannot_read_is_shown_quoted(value: str) -> None:
    message = answer("data=folder", f"data.root={value}")
    if message:
        assert "hydra.cc" not in message
        (word,) = shlex.split(message.rsplit("quote the value, as ", 1)[1])
        assert OverridesParser.create().parse_override(word).value() == value


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("fusion=concat", "cond=keypoints", "refs=2", "optimiser.learning_rate=1e-4"),
        ("+trainer.accumulate_grad_batches=2", "+backbone.folder=x", "++trainer.max_steps=3"),
        ("+devices=[2,1]", "trainer.devices='${oc.select:devices.${seed}}'"),
        ("hydra.run.dir=.", "+hydra.callbacks.x._target_=y", "recogniser@judge.recogniser=world"),
        ("init=null", "group=null", "net.start=null", "score_refs=3"),
    ],
)
def test_valid_overrides_are_accepted(overrides: tuple[str, ...]) -> None:
    assert answer(*overrides) == ""


def test_every_choice_is_taken() -> None:
    check_overrides([f"{group}={choice}" for group, choice in choices()])
    with pytest.raises(UserError, match="a: no setting has this name"):
        check_overrides(["a=1"])
