"""What an objective is: two losses, and how a minibatch is divided between real and generated."""

from typing import ClassVar, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

__all__ = ["Objective"]


class Objective(Protocol):
    """An adversarial objective.

    `examples` says which examples the update of D uses. `halves`: the first half of a minibatch as
    real ones, and the low-pass images of the second half for generated ones; G is then updated on
    all of them. `pairs`: every example is paired with one generated for the same low-pass image,
    and the same generated examples serve both updates.
    """

    examples: ClassVar[Literal["halves", "pairs"]]

    @property
    def kind(self) -> str:
        """The name in a recipe."""

    def discriminator_loss(
        self, *, real: Float[Tensor, "n ..."], fake: Float[Tensor, "m ..."]
    ) -> Tensor:
        """Computes the loss of D from logits of real and of generated examples."""

    def generator_loss(
        self, *, real: Float[Tensor, "n ..."], fake: Float[Tensor, "m ..."]
    ) -> Tensor:
        """Computes the loss of G; `real` are the logits from the update of D, as constants."""
