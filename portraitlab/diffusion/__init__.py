"""The frozen diffusion models, their precision and their LoRAs."""
