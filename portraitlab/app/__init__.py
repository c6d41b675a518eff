"""Tasks, the command line, and the experiment that both are made of."""
