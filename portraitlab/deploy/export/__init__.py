"""A trained run as a folder that others can use: weights in diffusers' format, settings, a card."""
