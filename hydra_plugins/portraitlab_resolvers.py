"""Register the resolvers of `${...}` in conf/; Hydra imports all plugins before it composes."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from portraitlab.app.help import help_text
from portraitlab.runs.sweep import sweep_name
from portraitlab.support.groups import RECORDED
from portraitlab.support.sizes import by_scale


def chosen_names() -> DictConfig:
    """Resolve `${chosen_names:}`: the choice of each recorded group."""
    names = HydraConfig.get().runtime.choices
    return OmegaConf.create({name: names[name] for name in RECORDED})


OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("help_text", help_text, replace=True)
OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
OmegaConf.register_new_resolver("chosen_names", chosen_names, replace=True)
