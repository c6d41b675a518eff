"""Encoders of pictures for FID, in place of the CLIP pair's embedding."""
