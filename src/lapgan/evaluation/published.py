"""Values that others have published, for comparison; none of them was measured here."""

from collections.abc import Mapping

__all__ = ["CIFAR10_LOG_LIKELIHOOD"]

# Mean and standard deviation over test images, nats per image, 50,000 samples per model:
# Denton et al. (2015), table 1 and appendix.
CIFAR10_LOG_LIKELIHOOD: Mapping[str, tuple[float, float]] = {
    "GAN, Parzen": (-3617, 353),
    "LAPGAN, Parzen": (-3572, 345),
    "LAPGAN, multi-scale Parzen": (-1799, 826),
}
