"""How images are drawn from noise."""
