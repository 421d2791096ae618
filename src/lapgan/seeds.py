"""Seeds: every random stream of the package is derived from a key of whole numbers.

    seed_of(seed, *where)

Streams of different keys are independent, and nothing has to be remembered between two of them, so
an interrupted run draws exactly what it would have drawn.
"""

import numpy as np
import torch

__all__ = ["generator_of", "seed_of"]


def seed_of(*key: int) -> int:
    """Returns the seed of a key: 63 bits, so that PyTorch takes it as a positive number."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1


def generator_of(*key: int) -> torch.Generator:
    """Returns a CPU generator seeded by a key."""
    return torch.Generator().manual_seed(seed_of(*key))
