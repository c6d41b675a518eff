"""Inject identity tokens and control images into the frozen backbone."""
