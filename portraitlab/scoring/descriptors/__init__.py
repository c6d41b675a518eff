"""Descriptors of two views that are matched: of diffusion models, of DINO, and controls."""
