"""Photos, their features (computed once by frozen models) and batches of both."""
