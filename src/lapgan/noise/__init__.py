"""The noise z_k that a generator turns into an image or a residual.

Each kind draws from an explicit `torch.Generator`, so that the same seed gives the same images. A
kind is also the section of a recipe that asks for it: `noise = { kind = "plane", planes = 3 }`.

The entropy of `PlaneNoise` is the same for each pixel at every level. `HashedNoise` and
`LowRankNoise` fill planes of any size from a given number of values: the same number at every level
is noise of constant entropy, one that grows less than the pixels is noise of sublinear growth.
Huszár's comment on the paper asks for both (inference.vc, 2015).

Of each kind three numbers are known, for one image of a size: the entropy in bits, the rank of the
covariance C of z_k, and its effective dimension (participation ratio)

    (tr C)^2 / tr C^2,    at most the rank, which it is where all values vary alike

The values of one draw are uniform in [-1, 1] or standard normal. 24 bits per value are the entropy
of uniform ones, and an upper bound for normal ones: `torch.randn` turns every two uniform values of
24 bits into two normal ones, by the transform of Box and Muller (1958), and rounding can only lose
some.
"""

from typing import get_args

from lapgan.noise.conditioning import ConditioningNoise
from lapgan.noise.correlated import HashedNoise, LowRankNoise, SublinearNoise
from lapgan.noise.plain import (
    VALUE_BITS,
    Distribution,
    MixedNoise,
    PlaneNoise,
    VectorNoise,
    draw_normal,
)

__all__ = [
    "PLANE_NOISES",
    "VALUE_BITS",
    "AnyNoise",
    "AnyPlaneNoise",
    "ConditioningNoise",
    "Distribution",
    "HashedNoise",
    "LowRankNoise",
    "MixedNoise",
    "PlaneNoise",
    "SublinearNoise",
    "VectorNoise",
    "draw_normal",
    "is_vector",
]

# Noise of a level's own size, for generators that see maps; all have `planes`.
AnyPlaneNoise = PlaneNoise | HashedNoise | LowRankNoise | SublinearNoise
AnyNoise = AnyPlaneNoise | VectorNoise | MixedNoise
PLANE_NOISES: tuple[type[AnyNoise], ...] = get_args(AnyPlaneNoise)


def is_vector(noise: AnyNoise) -> bool:
    """Returns whether z is a vector of which nets of planes have to make planes: z = A v."""
    if isinstance(noise, LowRankNoise | SublinearNoise):
        return noise.factor == "learned"
    return isinstance(noise, VectorNoise | MixedNoise)
