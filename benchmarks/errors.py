"""Compares the errors of scores that count neighbors with repeated draws; see docs/distances.md.

    python benchmarks/errors.py

Two sets of 1,000 points of the same Gaussian in 10 dimensions, drawn 40 times.
"""

import torch

from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.density_coverage import density_coverage
from lapgan.evaluation.metrics.precision_recall import precision_recall

POINTS, DIMENSION, DRAWS = 1000, 10, 40


def measure(seed: int) -> dict[str, Estimate]:
    """Measures one draw of two sets."""
    generator = torch.Generator().manual_seed(seed)
    real, fake = (Features(torch.randn(POINTS, DIMENSION, generator=generator)) for _ in range(2))
    return precision_recall(real, fake, seed) | density_coverage(real, fake, seed)


def main() -> None:
    """Prints the table."""
    results = [measure(seed) for seed in range(DRAWS)]
    print("| score | mean | error, mean | standard deviation of the draws |\n|---|---|---|---|")
    for name in results[0]:
        values = torch.tensor([result[name].value for result in results])
        errors = torch.tensor([result[name].error for result in results])
        print(f"| {name} | {values.mean():.3f} | {errors.mean():.4f} | {values.std():.4f} |")


if __name__ == "__main__":
    main()
