"""Draw portraits of held-out people, judge them, and compute the metrics."""
