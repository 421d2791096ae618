"""Trained weights that come with the package, one file each; docs/pretrained.md tells of them."""
