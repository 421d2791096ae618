"""Averaged weights: the ones that are sampled with and released."""

import torch
from torch import nn

__all__ = ["update_average"]


def update_average(
    average: nn.Module,
    model: nn.Module,
    images: int,
    images_seen: int,
    half_life: int,
    ramp: float = 0.05,
) -> None:
    """Moves the averaged weights towards the model's.

        w_avg <- beta w_avg + (1 - beta) w,   beta = 0.5^(images / h)

    The half-life h is `half_life`, but at most `ramp` times the images seen, so that the average
    soon forgets the first weights.

    Args:
        average: the module that holds the averaged weights.
        model: the module in training.
        images: how many images the last step used.
        images_seen: how many all steps used.
        half_life: after how many images an old weight counts half; 0 for the model's weights.
        ramp: the largest half-life, as a fraction of the images seen.

    References:
        Karras et al. (2021), StyleGAN3's code, for the ramp.
    """
    # Divided by 20 and not multiplied by 0.05, which rounds differently: runs of before go on.
    horizon = min(half_life, max(images_seen / (1 / ramp), 1e-8))
    beta = 0.5 ** (images / horizon) if half_life else 0.0
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - beta)
        for buffer, current in zip(average.buffers(), model.buffers(), strict=True):
            buffer.copy_(current)
