"""The networks: plain modules with plain arguments, one file per family.

A family's file also holds the sections by which a recipe asks for its nets, in the tuples
`GENERATORS` and `DISCRIMINATORS`. `lapgan.models.contracts` says what every net promises.
"""

from typing import TYPE_CHECKING

from lapgan.models.contracts import DiscriminatorSection, GeneratorSection
from lapgan.section import union_of

__all__ = ["FAMILIES", "AnyDiscriminator", "AnyGenerator"]

FAMILIES = ("paper", "patch", "lsun", "residual", "residual_views", "feature_discriminator")

if TYPE_CHECKING:
    AnyGenerator = GeneratorSection
    AnyDiscriminator = DiscriminatorSection
else:
    AnyGenerator = union_of(__name__, FAMILIES, "GENERATORS")
    AnyDiscriminator = union_of(__name__, FAMILIES, "DISCRIMINATORS")
