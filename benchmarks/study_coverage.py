"""How often the study's 95% intervals hold the truth, with raters and images that differ.

    python benchmarks/study_coverage.py --studies 300 --thresholds 200

The first table is about shares, the second about threshold times.

Each simulated study of the first has the default design's numbers: 120 images per source, 28
answers per rater and source. Raters differ in their criterion (standard deviation 0.3), images in
how real they look (the standard deviation in the table), both in units of the evidence. The true
shares are those of all raters and all images: 85% for real images, 45% and 30% for two models.

Raters' thresholds are distributed around 200 or 500 ms with the standard deviation 0.2 on log10.
Their functions have the standard deviation 0.25 and 2% lapses (`--lapses`: the share of wrong
answers, however long an image is shown); images move the evidence as above.
Staircases are the default ones, 55 trials each: those of a sitting with two models.
"""

import argparse
import itertools

import numpy as np
from scipy.stats import norm

from lapgan.study.analysis import (
    Resampling,
    sensitivity,
    share_difference,
    share_judged_real,
)
from lapgan.study.design import PAPER_DURATIONS_MS, Staircase
from lapgan.study.judgements import Judgements
from lapgan.study.thresholds import fit_threshold

SHARES = {"real": 0.85, "a": 0.45, "b": 0.30}
IMAGES, ANSWERS, CRITERION_STD = 120, 28, 0.3
BETWEEN, STD, TRIALS = 0.2, 0.25, 55
MODES = ("staircase", "durations")


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


def simulate_timed(
    threshold_ms: float, staircase: bool, raters: int, image_std: float, lapse: float, seed: int
) -> Judgements:
    """One model's answers and those to as many real images, all raters at once."""
    rng, rule = np.random.default_rng(seed), Staircase()
    thresholds = np.log10(threshold_ms) + rng.normal(0, BETWEEN, raters)
    looks = rng.normal(0, image_std, 2 * IMAGES)
    real = np.array([rng.permutation(np.arange(TRIALS) % 2) for _ in range(raters)], dtype=bool)
    place = np.where(real, real.cumsum(1), (~real).cumsum(1)) - 1
    shown = (place + np.arange(raters)[:, None] * (TRIALS // 2 + 1)) % IMAGES + IMAGES * real
    asked = rng.choice(PAPER_DURATIONS_MS, (raters, TRIALS))
    correct, times, streak = np.empty_like(real), np.full(raters, rule.start_ms), np.zeros(raters)
    for trial in range(TRIALS):
        asked[:, trial] = times if staircase else asked[:, trial]
        evidence = (np.log10(asked[:, trial]) - thresholds) / STD + looks[shown[:, trial]]
        right = rng.random(raters) < 0.5 + (0.5 - lapse) * norm.cdf(evidence)
        correct[:, trial], streak = right, np.where(right, streak + 1, 0)
        shorter = streak == rule.correct_to_shorten
        times = times * np.where(right, 1.0, rule.ratio) / np.where(shorter, rule.ratio, 1.0)
        times, streak = times.clip(rule.min_ms, rule.max_ms), np.where(shorter, 0, streak)
    return Judgements.from_columns(
        rater=np.repeat([f"r{rater:03d}" for rater in range(raters)], TRIALS),
        source=np.where(real, "real", "a").ravel(),
        staircase=np.full(real.size, "a" if staircase else ""),
        real=real.ravel(),
        correct=correct.ravel(),
        stimulus=shown.ravel().astype(np.str_),
        asked_ms=asked.ravel(),
    )


def check_threshold(staircase: bool, truth: float, *options: float) -> tuple[float, bool]:
    """Returns the error on log10, and whether the interval holds the truth."""
    *others, seed = options
    judgements = simulate_timed(truth, staircase, *others, seed)
    resampling = Resampling(judgements.rater.tolist(), 500, np.random.default_rng(seed))
    fit = fit_threshold(judgements, "a", resampling)
    low, high = fit.interval_ms
    return float(np.log10(fit.threshold_ms / truth)), bool(low <= truth <= high)


def print_thresholds(studies: int, options: argparse.Namespace) -> None:
    columns = ("mode", "threshold", "raters", "SD of images", "lapses", "studies", "mean")
    print(f"\n| {' | '.join(columns)} | error on log10 | held |\n|{'---|' * 9}")
    cases = (("staircase", 200.0), ("staircase", 500.0), ("durations", 200.0))
    rows = itertools.product(cases, options.raters, options.image_stds, options.lapses)
    for (mode, truth), *others in rows:
        if mode not in options.modes:
            continue
        checks = [
            check_threshold(mode == "staircase", truth, *others, seed) for seed in range(studies)
        ]
        errors, held = zip(*checks, strict=True)
        mean, error = np.mean(errors), np.std(errors) / np.sqrt(studies)
        raters, image_std, lapse = others
        print(
            f"| {mode} | {truth:.0f} ms | {raters} | {image_std} | {lapse:.0%} | {studies} "
            f"| {truth * 10**mean:.0f} ms | {mean:+.3f} ± {error:.3f} | {np.mean(held):.1%} |",
            flush=True,
        )


def print_shares(studies: int) -> None:
    for raters in (15, 40, 60):
        for image_std in (0.0, 0.5, 1.0):
            held = [check_study(raters, image_std, seed) for seed in range(studies)]
            if (raters, image_std) == (15, 0.0):
                print(f"| raters | SD of images | {' | '.join(held[0])} |")
                print(f"|{'---|' * (2 + len(held[0]))}")
            shares = [np.mean([row[name] for row in held]) for name in held[0]]
            cells = " | ".join(f"{share:.1%}" for share in shares)
            print(f"| {raters} | {image_std} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="studies of shares, per row")
    parser.add_argument(
        "--thresholds", type=int, default=200, help="studies of thresholds, per row"
    )
    rows = parser.add_argument_group("rows of the table of thresholds")
    rows.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    rows.add_argument("--raters", nargs="+", type=int, default=[15, 40, 60])
    rows.add_argument("--image-stds", nargs="+", type=float, default=[0.0, 0.5, 1.0])
    rows.add_argument("--lapses", nargs="+", type=float, default=[0.02], help="share of answers")
    options = parser.parse_args()
    if options.studies:
        print_shares(options.studies)
    if options.thresholds:
        print_thresholds(options.thresholds, options)


if __name__ == "__main__":
    main()
