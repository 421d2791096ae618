"""The adversarial objectives, as functions of logits.

A discriminator returns logits a with D = sigmoid(a), so -log D = softplus(-a) and
-log(1 - D) = softplus(a), which neither overflow nor lose precision.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["discriminator_loss", "minimax_generator_loss", "nonsaturating_generator_loss"]


def discriminator_loss(*, real: Float[Tensor, " n"], fake: Float[Tensor, " m"]) -> Tensor:
    """Computes the binary cross-entropy of a minibatch of real and generated examples.

        L_D = -(sum_real log D + sum_fake log(1 - D)) / (n + m)

    Args:
        real: logits of real examples.
        fake: logits of generated examples.

    Source: Denton et al. (2015), equation 2; Goodfellow et al. (2014), algorithm 1. The mean runs
    over the whole minibatch, as in the authors' code, so a blind D has the loss log 2.
    """
    return (F.softplus(-real).sum() + F.softplus(fake).sum()) / (len(real) + len(fake))


def nonsaturating_generator_loss(fake: Float[Tensor, " m"]) -> Tensor:
    """Computes L_G = -mean log D(G(z)), which has gradients while D still wins.

    Source: Goodfellow et al. (2014), section 3: "we can train G to maximize log D(G(z))".
    """
    return F.softplus(-fake).mean()


def minimax_generator_loss(fake: Float[Tensor, " m"]) -> Tensor:
    """Computes L_G = mean log(1 - D(G(z))), the objective as written in the papers.

    Source: Denton et al. (2015), equation 2.
    """
    return -F.softplus(fake).mean()
