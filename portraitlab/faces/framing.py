"""Frame a face as the portraits that the miniature world's backbone was trained on."""

from __future__ import annotations

FRAME_CENTRE = (0.501, 0.510)
"""Centroid (x, y) of the five keypoints, as fractions of the portrait.

This and FRAME_SPREAD are means over the world's photos, so that the backbone, which has only seen
those, gets faces of the size and at the place it was trained on.
"""

FRAME_SPREAD = 0.146
"""Root mean square distance of the keypoints from their centroid, as a fraction of the portrait.

All five are used because yaw narrows the eyes and pitch shortens the nose, but not both at once.
"""

FACE_WIDTH = 0.57
"""Mean width of the box around a face's landmarks, as a fraction of the portrait."""
