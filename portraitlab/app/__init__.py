"""Tasks, the command line, and the experiment that both use."""
