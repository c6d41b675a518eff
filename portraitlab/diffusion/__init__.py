"""The frozen diffusion model."""
