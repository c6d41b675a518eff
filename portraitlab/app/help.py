"""Write the text of `python run.py --help` from the comments in conf/.

The first comment of a choice's file describes the choice. A group is described by the comment
after its line in the list of defaults in config.yaml, a setting by the comment after its line.
"""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

_GROUP = re.compile(r"^  - (\w+): \S+ +# (.+)$", re.MULTILINE)
_SETTING = re.compile(r"^(\w+): .*?# (.+)$", re.MULTILINE)


def help_text(_root_: DictConfig) -> str:
    """List groups with their choices, `*` before the chosen ones, then the top settings.

    _root_: a configuration as Hydra composes it. The text is escaped for string.Template.
    """
    # List the groups and their choices.
    conf = next(s.path for s in _root_.hydra.runtime.config_sources if s.provider == "main")
    declared = (Path(conf) / "config.yaml").read_text(encoding="utf-8")
    named = _root_.hydra.runtime.choices
    lines = []
    for group, about in _GROUP.findall(declared):
        lines.append(f"{group}: {about}")
        # For several choices, as in metrics=[sim_f,fid], Hydra records only keys of the group.
        chosen = [named[group]] if group in named else [*_root_[group]]
        folder = Path(conf) / group
        files = sorted(folder.glob("**/*.yaml"))
        choices = {str(f.relative_to(folder).with_suffix("")): first_comment(f) for f in files}
        width = max(map(len, choices))
        for choice, comment in choices.items():
            lines.append(f"  {'*' if choice in chosen else ' '} {choice:{width}}  {comment}")

    # List the settings.
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
    """Read the first comment of a YAML file, without @package lines; empty if there is none."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def _value(root: DictConfig, name: str) -> str:
    value = OmegaConf.select(root, name)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
