"""Differentiable face recognisers of real photos, in torch, for the identity loss and the judge."""
