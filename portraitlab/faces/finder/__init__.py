"""What finds the face in a generated picture for the identity loss (E_det of eq. 7)."""
