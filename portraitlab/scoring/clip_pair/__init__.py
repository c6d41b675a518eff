"""Image and text encoders of one space, which the judge's CLIP metrics see by."""
