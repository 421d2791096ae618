"""Training: each level is a unit of its own, with its own folder, log and checkpoint."""
