"""Models that see a photo: encoders, recognisers, matting, 3D face models, alignment."""
