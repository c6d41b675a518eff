"""Export a trained run as a folder: weights in diffusers' format, settings, a model card."""
