"""Image and text encoders of one space, for the judge's CLIP metrics."""
