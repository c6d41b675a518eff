"""Self-supervised encoders of whole pictures, for the metric dino."""
