"""The cascade: from noise to an image, coarse to fine."""

from lapgan.cascade.cascade import Cascade
from lapgan.cascade.levels import CascadeNet, Level, descend

__all__ = ["Cascade", "CascadeNet", "Level", "descend"]
