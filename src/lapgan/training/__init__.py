"""Training: each level is a task of its own, with its own folder, log and checkpoint."""
