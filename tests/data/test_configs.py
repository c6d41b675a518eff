"""The config files of data, encoder and select build what they name."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from placed import ROOT, module_of

CHOICES = [
    path.relative_to(ROOT / "conf")
    for group in ("data", "encoder", "select")
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_choice_names_its_module_and_only_settings_it_has(choice: Path) -> None:
    settings = OmegaConf.load(ROOT / "conf" / choice)
    assert settings._target_.rpartition(".")[0] == module_of(choice.parent.name, choice.stem)
    # A choice that extends another has its settings too, as its class has those of its base.
    own = get_class(settings._target_)
    extends = "defaults" in settings
    parameters = {
        name: parameter
        for each in (reversed(own.__mro__[:2]) if extends else [own])
        for name, parameter in inspect.signature(each).parameters.items()
    }
    named = set(settings) - {"_target_", "defaults"}
    if extends:
        named |= set(OmegaConf.load((ROOT / "conf" / choice).with_stem(settings.defaults[0])))
        named -= {"_target_"}
    assert named <= set(parameters)
    required = {name for name, value in parameters.items() if value.default is value.empty}
    assert required - {"self", "args", "kwargs", "settings"} <= named
