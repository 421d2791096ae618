"""What every net promises: the one call of generators and of discriminators, and some extras.

    high = generator(low, z, label)            logits = discriminator(high, low, label)

A generator whose section has `takes_sigma` takes a fourth argument, the standard deviation (B, 1)
of the conditioning noise; without it there is none. `generate` makes the call.

At the coarsest level `low` is None and `high` is the image itself; without classes `label` is None.
Every net takes any batch, also of 1 or 0 examples.
"""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from lapgan.noise import AnyNoise
from lapgan.sizes import Size

__all__ = [
    "DataInitialized",
    "Discriminator",
    "DiscriminatorSection",
    "FeatureMaps",
    "GeneratorSection",
    "SupportsDistance",
    "SupportsPairs",
    "generate",
]

# What D's trained part sees of an example: maps (B, c, h, w) of about zero mean, unit variance.
FeatureMaps = tuple[Tensor, ...]


class Discriminator(Protocol):
    """A net in two parts: fixed features of an example, and a trained head.

    The parts are apart so that instance noise and gradient penalties act on what the head sees.
    Logits are (B,), or (B, k) of a net in k parts that share no maps; a loss is the mean of all.
    """

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Computes what the head sees of residuals (B, 3, *size) on their low-pass images."""

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,) or (B, k)."""

    def __call__(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Returns head(features(high, low), label)."""


@runtime_checkable
class DataInitialized(Protocol):
    """A net some of whose buffers are statistics of the data, set once before training."""

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets them from real residuals and low-pass images (n, 3, h, w)."""


@runtime_checkable
class SupportsDistance(Protocol):
    """A generator with a distance of its own between residuals, for the supervised term."""

    def deviations(self, high: Tensor, other: Tensor) -> Tensor:
        """Computes how residuals (B, 3, *size) deviate: (B, ...), 0 where they are equal."""


@runtime_checkable
class SupportsPairs(Protocol):
    """A discriminator of images beside their low-pass images, which are then augmented alike.

    Of any other one, augmented images have no low-pass image.
    """

    def pair_features(self, image: Tensor, low: Tensor) -> FeatureMaps:
        """Computes what the head sees of images (B, 3, *size) and their low-pass images."""


class GeneratorSection(Protocol):
    """How a recipe asks for a generator."""

    takes_low: ClassVar[bool]
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]]

    @property
    def kind(self) -> str:
        """The name in a recipe."""

    @property
    def takes_sigma(self) -> bool:
        """Whether the generator is told the standard deviation of conditioning noise."""

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net; `noise` is one of `takes_noise`."""

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net also works at larger sizes than that it was built for."""


class DiscriminatorSection(Protocol):
    """How a recipe asks for a discriminator."""

    @property
    def kind(self) -> str:
        """The name in a recipe."""

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net, a `Discriminator`."""


def generate(
    generator: nn.Module,
    low: Tensor | None,
    z: Tensor,
    label: Tensor | None,
    sigma: Tensor | None = None,
) -> Tensor:
    """Calls a generator, with sigma where there is conditioning noise."""
    inputs = (low, z, label) if sigma is None else (low, z, label, sigma)
    high: Tensor = generator(*inputs)
    return high
