"""Photos, the features that frozen models compute of them once, and batches of both."""
