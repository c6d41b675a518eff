"""Frozen encoders that find faces and describe them (HiFi-Portrait, Sec. 3.2)."""
