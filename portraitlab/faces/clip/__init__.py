"""Image encoders whose patch tokens are the local features of real faces."""
