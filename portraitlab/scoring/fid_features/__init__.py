"""What FID sees of a picture, where that is not the CLIP pair's embedding."""
