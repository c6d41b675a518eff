"""Find the face in a generated image for the identity loss (E_det of eq. 7)."""
