"""What of a portrait shows the person (HiFi-Portrait, Sec. 3.2, pre-processing)."""
