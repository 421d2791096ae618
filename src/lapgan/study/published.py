"""Values that others have published, for comparison; none of them was measured here."""

from collections.abc import Mapping

__all__ = ["DGM_EVAL_CIFAR10_ERROR", "PAPER_AT_2000_MS"]

# Share judged real after 2000 ms, read off the figure and text of Denton et al. (2015),
# section 5.3: 15 volunteers, CIFAR-10.
PAPER_AT_2000_MS: Mapping[str, str] = {
    "real CIFAR-10 images": "over 90%",
    "LAPGAN and CC-LAPGAN": "40% to 50%",
    "GAN": "under 10%",
}

# Mean error rate of raters who judged 100 real and 100 generated CIFAR-10 images, one model
# each: Stein et al. (2023), the human data published with dgm-eval.
DGM_EVAL_CIFAR10_ERROR: Mapping[str, float] = {
    "RESFLOW": 0.088,
    "NVAE": 0.131,
    "ACGAN": 0.148,
    "WGAN-GP": 0.170,
    "LOGAN": 0.206,
    "ReACGAN": 0.336,
    "MHGAN": 0.336,
    "BigGAN": 0.387,
    "StyleGAN2-ada": 0.393,
    "StyleGAN-XL": 0.399,
    "iDDPM-DDIM": 0.400,
    "PFGM++": 0.436,
    "LSGM-ODE": 0.437,
}
