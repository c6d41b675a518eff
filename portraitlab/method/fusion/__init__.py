"""Fuse the features of several references into identity tokens."""
