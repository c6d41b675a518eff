"""What `python run.py --help` says of groups, choices and settings, from the comments in conf/.

The first comment of a choice's file is its line. A group's stands in config.yaml behind the group
in the list of defaults, a setting's behind the setting.
"""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

_GROUP = re.compile(r"^  - (\w+): \S+ +# (.+)$", re.MULTILINE)
_SETTING = re.compile(r"^(\w+): .*?# (.+)$", re.MULTILINE)


def help_text(_root_: DictConfig) -> str:
    """Groups with their choices, `*` before those that are taken, then the settings at the top.

    _root_: a configuration as Hydra composes it. The text is for string.Template.
    """
    conf = next(s.path for s in _root_.hydra.runtime.config_sources if s.provider == "main")
    declared = (Path(conf) / "config.yaml").read_text(encoding="utf-8")
    named = _root_.hydra.runtime.choices
    lines = []
    for group, about in _GROUP.findall(declared):
        lines.append(f"{group}: {about}")
        # Several at once, as in metrics=[sim_f,fid], are no choice to Hydra, but keys of the group.
        taken = [named[group]] if group in named else [*_root_[group]]
        folder = Path(conf) / group
        files = sorted(folder.glob("**/*.yaml"))
        choices = {str(f.relative_to(folder).with_suffix("")): first_comment(f) for f in files}
        width = max(map(len, choices))
        for choice, said in choices.items():
            lines.append(f"  {'*' if choice in taken else ' '} {choice:{width}}  {said}")
    lines += [
        "",
        "Settings, as in refs=2; all others by their dotted names, as in task.run=FOLDER:",
        "",
    ]
    settings = {
        f"{name}={_value(_root_, name)}": about for name, about in _SETTING.findall(declared)
    }
    width = max(map(len, settings))
    lines += [f"  {setting:{width}}  {about}" for setting, about in settings.items()]
    return "\n".join(lines).replace("$", "$$")


def first_comment(path: Path) -> str:
    """The first line of a YAML file that is a comment for people; empty where it begins without."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def _value(root: DictConfig, name: str) -> str:
    value = OmegaConf.select(root, name)
    return str(value).lower() if isinstance(value, bool) else str(value)
