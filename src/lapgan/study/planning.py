"""The plan of a sitting: what each rater sees, in which order, for how long.

A sitting is planned from (seed, rater index, salt) alone, so the plan of a stored study can be
computed again and checked. The salt is in the study's manifest, which is not served: without it,
the package is no key to the answers. With T trials and D durations, every duration is shown T/D
times (rounded up or down), every source according to its weight, and all (source, duration) cells
of one source equally often, give or take one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lapgan.errors import LapganError
from lapgan.study.design import CATCH, REAL, Design, Phase, Pools, Staircase

__all__ = ["PlannedTrial", "plan_sitting", "pool_sizes", "real_is_left", "staircase_ms"]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a sitting, as planned before the rater starts.

    Args:
        position: 0, 1, ... through the whole sitting.
        block: 0 for practice, then 1, 2, ...
        phase: `practice` (with feedback), `main` or `catch`.
        source: where the image comes from; `real` for real images.
        staircase: the fake source whose staircase sets the time; None in other modes.
        stimulus: name of the frozen image.
        asked_ms: planned presentation time; None when untimed or set by a staircase.
    """

    position: int
    block: int
    phase: Phase
    source: str
    staircase: str | None
    stimulus: str
    asked_ms: float | None


def pool_sizes(design: Design, fakes: Sequence[str]) -> dict[Phase, dict[str, int]]:
    """Returns how many images of each source and phase a study must freeze.

    Raises:
        LapganError: `images_per_source` is smaller than what one rater sees of a source.
    """
    for source, count in _find_largest_quotas(design, fakes).items():
        if design.images_per_source < count:
            raise LapganError(
                f"images_per_source: one rater sees {count} images of {source!r} and none twice, "
                f"found {design.images_per_source}. Raise it to {count} or more, or lower trials."
            )
    practice = _split_practice(design, fakes)
    return {
        "practice": {source: practice.count(source) for source in dict.fromkeys(practice)},
        "main": dict.fromkeys([REAL, *fakes], design.images_per_source),
        "catch": {CATCH: 2 * design.catch_trials} if design.catch_trials else {},
    }


def real_is_left(design: Design, rater_index: int) -> bool:
    """Returns whether the left key means real for this rater."""
    if design.sides == "balanced":
        return rater_index % 2 == 0
    return design.sides == "real-left"


def plan_sitting(
    design: Design, fakes: Sequence[str], pools: Pools, rater_index: int, salt: str = ""
) -> list[PlannedTrial]:
    """Plans one rater's sitting: practice, then blocks of main and catch trials.

    No rater sees an image twice, and over all raters the images of a source are shown equally
    often.

    Args:
        design: the study's design.
        fakes: names of the fake sources.
        pools: frozen stimuli by phase and source, of the sizes of `pool_sizes`.
        rater_index: 0, 1, ... in order of arrival.
        salt: the study's secret, hexadecimal; empty in studies that were frozen without one.
    """
    secret = [int(salt, 16)] if salt else []
    rng = np.random.default_rng([design.seed, rater_index, 1, *secret])
    main = _deal_main(design, fakes, pools["main"], rater_index, rng)
    rng.shuffle(main)
    blocks = [list(part) for part in np.array_split(np.arange(len(main)), design.blocks)]
    planned = _plan_practice(design, fakes, pools, rng)
    catches = _deal_catches(design, pools, rng)
    for number, members in enumerate(blocks, start=1):
        trials = [main[member] for member in members]
        for catch in catches[number - 1 :: design.blocks]:
            trials.insert(int(rng.integers(1, len(trials) + 1)), catch)
        planned += [(number, *trial) for trial in trials]
    return [PlannedTrial(position, *trial) for position, trial in enumerate(planned)]


def staircase_ms(rule: Staircase, outcomes: Sequence[bool]) -> float:
    """Returns the next presentation time of a staircase.

    Args:
        rule: the staircase's settings.
        outcomes: whether each answer on this staircase so far was correct, oldest first.

    Returns:
        Milliseconds within [min_ms, max_ms].
    """
    milliseconds, streak = rule.start_ms, 0
    for correct in outcomes:
        streak = streak + 1 if correct else 0
        if not correct:
            milliseconds *= rule.ratio
        elif streak == rule.correct_to_shorten:
            milliseconds, streak = milliseconds / rule.ratio, 0
        milliseconds = min(max(milliseconds, rule.min_ms), rule.max_ms)
    return milliseconds


# (phase, source, staircase, stimulus, asked_ms): a trial without its position and block.
_Unplaced = tuple[Phase, str, str | None, str, float | None]


def _weigh_sources(design: Design, fakes: Sequence[str]) -> dict[str, float]:
    share = design.real_share if design.mode == "durations" else 0.5
    if share is None:
        share = 1 / (len(fakes) + 1)
    return {REAL: share, **dict.fromkeys(fakes, (1 - share) / len(fakes))}


def _apportion(weights: Mapping[str, float], total: int, turn: int) -> dict[str, int]:
    """Returns whole numbers that sum to `total`; `turn` rotates who receives the remainder."""
    exact = {source: weight * total for source, weight in weights.items()}
    quotas = {source: int(value + 1e-9) for source, value in exact.items()}
    remainder = total - sum(quotas.values())
    names = list(weights)
    start = turn * remainder % len(names)
    rotated = names[start:] + names[:start]
    by_remainder = sorted(rotated, key=lambda source: round(quotas[source] - exact[source], 9))
    for source in by_remainder[:remainder]:
        quotas[source] += 1
    return quotas


def _find_largest_quotas(design: Design, fakes: Sequence[str]) -> dict[str, int]:
    turns = [
        _apportion(_weigh_sources(design, fakes), design.trials, turn)
        for turn in range(len(fakes) + 1)
    ]
    return {source: max(quotas[source] for quotas in turns) for source in turns[0]}


def _deal_main(
    design: Design,
    fakes: Sequence[str],
    pools: Mapping[str, Sequence[str]],
    rater_index: int,
    rng: np.random.Generator,
) -> list[_Unplaced]:
    quotas = _apportion(_weigh_sources(design, fakes), design.trials, rater_index)
    windows = _find_largest_quotas(design, fakes)
    images = [
        (source, image)
        for place, (source, count) in enumerate(quotas.items())
        for image in _pick_window(
            design, place, pools[source], rater_index * windows[source], count
        )
    ]
    times = _shuffle_times(design, rng)
    # Neighbors in this list share a source, so cycling through the times balances every cell.
    stairs = _assign_staircases(design, fakes, quotas, rater_index)
    return [
        ("main", source, stair, image, times[number % len(times)])
        for number, ((source, image), stair) in enumerate(zip(images, stairs, strict=True))
    ]


def _pick_window(
    design: Design, place: int, pool: Sequence[str], start: int, count: int
) -> list[str]:
    order = np.random.default_rng([design.seed, place, 0]).permutation(len(pool))
    return [pool[order[(start + step) % len(pool)]] for step in range(count)]


def _shuffle_times(design: Design, rng: np.random.Generator) -> list[float | None]:
    if design.mode != "durations":
        return [None]
    return [float(time) for time in rng.permutation(design.durations_ms)]


def _assign_staircases(
    design: Design, fakes: Sequence[str], quotas: Mapping[str, int], turn: int
) -> list[str | None]:
    if design.mode != "staircase":
        return [None] * design.trials
    reals = [fakes[(number + turn) % len(fakes)] for number in range(quotas[REAL])]
    return [*reals, *(fake for fake in fakes for _ in range(quotas[fake]))]


def _split_practice(design: Design, fakes: Sequence[str]) -> list[str]:
    return [
        fakes[number // 2 % len(fakes)] if number % 2 else REAL
        for number in range(design.practice_trials)
    ]


def _plan_practice(
    design: Design, fakes: Sequence[str], pools: Pools, rng: np.random.Generator
) -> list[tuple[int, Phase, str, str | None, str, float | None]]:
    remaining = {source: list(images) for source, images in pools["practice"].items()}
    sources = _split_practice(design, fakes)
    rng.shuffle(sources)
    return [
        (0, "practice", source, None, remaining[source].pop(), time)
        for source, time in zip(sources, _space_practice_times(design), strict=True)
    ]


def _space_practice_times(design: Design) -> list[float | None]:
    longest = design.longest_ms
    if longest is None:
        return [None] * design.practice_trials
    if design.mode == "staircase":
        return [design.staircase.start_ms] * design.practice_trials
    longest_first = sorted(design.durations_ms, reverse=True)
    steps = np.linspace(0, len(longest_first) - 1, design.practice_trials)
    return [longest_first[round(step)] for step in steps]


def _deal_catches(design: Design, pools: Pools, rng: np.random.Generator) -> list[_Unplaced]:
    if not design.catch_trials:
        return []
    images = rng.permutation(list(pools["catch"][CATCH]))[: design.catch_trials]
    return [("catch", CATCH, None, str(image), design.longest_ms) for image in images]
