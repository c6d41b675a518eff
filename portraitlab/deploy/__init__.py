"""Export a run, draw with an export, and count what a model costs."""
