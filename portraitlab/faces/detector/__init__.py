"""Find all faces of a picture of any size."""
