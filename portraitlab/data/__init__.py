"""Photos, what the frozen models say of them, and the batches made of both."""
