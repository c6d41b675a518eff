"""Register the resolvers of `${...}` in conf/; Hydra imports all plugins before it composes."""

from omegaconf import OmegaConf

from portraitlab.app.help import help_text
from portraitlab.runs.sweep import sweep_name
from portraitlab.support.sizes import by_scale

OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("help_text", help_text, replace=True)
OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
