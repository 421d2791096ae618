"""Evaluation: how good a cascade is, and what its levels do."""
