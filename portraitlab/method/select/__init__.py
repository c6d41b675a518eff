"""Choose the reference whose 3D shape draws the landmarks (HiFi-Portrait, Sec. 3.3, Table 5)."""
