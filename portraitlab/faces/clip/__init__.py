"""Image encoders; their patch tokens are the local features of real faces."""
