"""Train the miniature's frozen models, each by a script of its own."""
