"""Sample images from noise."""
