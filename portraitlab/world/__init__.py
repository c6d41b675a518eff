"""The miniature world: renderer, people, photos, captions and frozen models."""
