"""Fit a model: LightningModule, checkpoints, callbacks and loggers."""
