"""Laplacian pyramids of adversarial networks."""
