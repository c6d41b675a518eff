"""The miniature: renderer, people, photos and captions, and its frozen models."""
