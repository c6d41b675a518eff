"""Separate the person of a portrait from the background (HiFi-Portrait, Sec. 3.2)."""
