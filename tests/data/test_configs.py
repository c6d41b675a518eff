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
    own = get_class(settings._target_)
    # A class that takes further settings has those of its base too.
    parameters: dict[str, inspect.Parameter] = {}
    for each in own.__mro__:
        known = inspect.signature(each).parameters
        parameters = {**known, **parameters}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
            break
    named = set(settings) - {"_target_", "defaults"}
    if "defaults" in settings:
        named |= set(OmegaConf.load((ROOT / "conf" / choice).with_stem(settings.defaults[0])))
        named -= {"_target_"}
    assert named <= set(parameters)
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    assert required <= named
