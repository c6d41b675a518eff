"""Register what `${...}` calls in conf/, wherever Hydra composes it: it imports all its plugins."""

from omegaconf import OmegaConf

from portraitlab.app.help import help_text
from portraitlab.runs.sweep import sweep_name
from portraitlab.support.sizes import by_scale

OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("help_text", help_text, replace=True)
OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
