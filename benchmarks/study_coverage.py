"""How often the study's 95% intervals hold the truth, with raters and images that differ.

    python benchmarks/study_coverage.py --studies 300

Each simulated study has the default design's numbers: 120 images per source, 28 answers per rater
and source. Raters differ in their criterion (standard deviation 0.3), images in how real they look
(the standard deviation in the table), both in units of the evidence. The true shares are those of
all raters and all images: 85% for real images, 45% and 30% for two models.
"""

import argparse

import numpy as np
from scipy.stats import norm

from lapgan.study.analysis import (
    Resampling,
    sensitivity,
    share_difference,
    share_judged_real,
)
from lapgan.study.judgements import Judgements

SHARES = {"real": 0.85, "a": 0.45, "b": 0.30}
IMAGES, ANSWERS, CRITERION_STD = 120, 28, 0.3


def simulate(raters: int, image_std: float, rng: np.random.Generator) -> Judgements:
    criteria = rng.normal(0, CRITERION_STD, raters)
    columns = []
    for source, share in SHARES.items():
        center = norm.ppf(share) * np.sqrt(1 + image_std**2 + CRITERION_STD**2)
        looks, order = rng.normal(0, image_std, IMAGES), rng.permutation(IMAGES)
        places = ANSWERS * np.arange(raters)[:, None] + np.arange(ANSWERS)
        shown = order[places % IMAGES]
        says_real = norm.cdf(center + looks[shown] + criteria[:, None])
        said = rng.random(shown.shape) < says_real
        names = np.array([f"{source}-{image}" for image in shown.ravel()])
        who = np.repeat([f"r{rater:03d}" for rater in range(raters)], ANSWERS)
        columns.append((who, said.ravel(), names, np.full(said.size, source)))
    rater, said_real, stimulus, origin = map(np.concatenate, zip(*columns, strict=True))
    return Judgements.from_columns(
        rater=rater, said_real=said_real, stimulus=stimulus, source=origin
    )


def check_study(raters: int, image_std: float, seed: int) -> dict[str, bool]:
    rng = np.random.default_rng(seed)
    everything = simulate(raters, image_std, rng)
    resampling = Resampling(everything.rater.tolist(), 500, rng)
    at_one_time = everything.where(rng.integers(0, 11, len(everything)) == 0)
    d, _ = sensitivity(everything, "a", resampling)
    difference, _ = share_difference(everything, "a", "b", resampling)

    def holds(judgements: Judgements, source: str) -> bool:
        mine = judgements.where(judgements.source == source)
        low, high = share_judged_real(mine, resampling).interval
        return bool(low <= SHARES[source] <= high)

    return {
        "share 85%": holds(everything, "real"),
        "share 45%": holds(everything, "a"),
        "share 45%, one time": holds(at_one_time, "a"),
        "d'": bool(d.low <= norm.ppf(SHARES["real"]) - norm.ppf(SHARES["a"]) <= d.high),
        "difference": bool(difference.low <= SHARES["a"] - SHARES["b"] <= difference.high),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    options = parser.parse_args()
    for raters in (15, 40, 60):
        for image_std in (0.0, 0.5, 1.0):
            held = [check_study(raters, image_std, seed) for seed in range(options.studies)]
            if (raters, image_std) == (15, 0.0):
                print(f"| raters | SD of images | {' | '.join(held[0])} |")
                print(f"|{'---|' * (2 + len(held[0]))}")
            shares = [np.mean([row[name] for row in held]) for name in held[0]]
            cells = " | ".join(f"{share:.1%}" for share in shares)
            print(f"| {raters} | {image_std} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
