"""Values that others have published, for comparison; none of them was measured here."""

from collections.abc import Mapping

__all__ = ["CIFAR10_LOG_LIKELIHOOD", "STL10_LOG_LIKELIHOOD"]

# Mean and standard deviation over test images, nats an image, 50,000 samples a model:
# Denton et al. (2015), table 1 and appendix.
CIFAR10_LOG_LIKELIHOOD: Mapping[str, tuple[float, float]] = {
    "GAN, Parzen": (-3617, 353),
    "LAPGAN, Parzen": (-3572, 345),
    "LAPGAN, multi-scale Parzen": (-1799, 826),
}
STL10_LOG_LIKELIHOOD: Mapping[str, tuple[float, float]] = {
    "GAN, Parzen": (-3661, 347),
    "LAPGAN, Parzen": (-3563, 311),
    "LAPGAN, multi-scale Parzen": (-2906, 728),
}
