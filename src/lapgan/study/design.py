"""The design of a study: what each rater sees, in which order, for how long.

A sitting is planned from (seed, rater index) alone, so a stored study can be planned anew and
checked. With T trials, S sources and D durations every duration is shown T/D times (rounded up
or down), every source as often as its weight says, and every (source, duration) cell as often as
any other cell of that source, give or take one.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lapgan.errors import LapganError

__all__ = [
    "CATCH",
    "PAPER_DURATIONS_MS",
    "REAL",
    "Design",
    "Exclusion",
    "PlannedTrial",
    "Pools",
    "Staircase",
    "plan_sitting",
    "pool_sizes",
    "read_design",
    "real_is_left",
    "staircase_ms",
]

REAL = "real"
CATCH = "catch"

# The paper states eleven durations from 50 to 2000 ms; ten are on its figure's axis.
PAPER_DURATIONS_MS = (50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 650.0, 1000.0, 2000.0)

Phase = Literal["practice", "main", "catch"]
# Names of frozen stimuli by phase and source.
Pools = Mapping[Phase, Mapping[str, Sequence[str]]]

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Milliseconds = Annotated[float, Field(ge=10, le=60_000)]


class Staircase(BaseModel):
    """A weighted up-down staircase on the logarithm of the presentation time.

    After `correct_to_shorten` correct answers in a row the time is divided by `ratio`; after a
    mistake it is multiplied by it. Three to one converges where 0.5^(1/3) = 79.4% are correct.

    Source: Levitt (1971), Transformed up-down methods in psychoacoustics.
    """

    model_config = _STRICT

    start_ms: _Milliseconds = 500.0
    min_ms: _Milliseconds = 33.0
    max_ms: _Milliseconds = 2000.0
    ratio: float = Field(default=1.4, gt=1.0, le=4.0)
    correct_to_shorten: int = Field(default=3, ge=1, le=6)

    @model_validator(mode="after")
    def _ordered(self) -> "Staircase":
        if not self.min_ms <= self.start_ms <= self.max_ms:
            raise ValueError("expected min_ms <= start_ms <= max_ms")
        return self


class Exclusion(BaseModel):
    """Which raters and trials the analysis leaves out; fixed before the first answer.

    Attributes:
        one_key_share: a rater is left out who gave one and the same answer in at least this share
            of the main trials.
        fast_ms: an answer sooner than this after the image's onset is too fast to be a judgement.
        fast_share: a rater is left out with more than this share of too-fast answers.
        failed_catch: a rater is left out with more than this number of catch images called real.
        min_answers: a rater with fewer main answers is left out (0: unfinished sittings count).
        timing_frames: a trial is left out whose image was shown longer or shorter than asked by
            more than this many frames of the rater's screen.
        drop_hidden: leave out trials during which the page was hidden.
        drop_resumed: leave out trials that were begun again after a reload.
    """

    model_config = _STRICT

    one_key_share: float = Field(default=0.95, gt=0.5, le=1.0)
    fast_ms: float = Field(default=200.0, ge=0, le=5000)
    fast_share: float = Field(default=0.1, ge=0, le=1)
    failed_catch: int = Field(default=1, ge=0)
    min_answers: int = Field(default=0, ge=0)
    timing_frames: float = Field(default=1.0, gt=0)
    drop_hidden: bool = True
    drop_resumed: bool = True


class Design(BaseModel):
    """Everything that defines a study but its images; the schema of `study.toml`.

    The defaults are the paper's design: one image, its time, a grey mask, real or fake.

    Attributes:
        title: shown to raters; it should not give the hypothesis away.
        seed: draws the stimuli and every rater's order.
        mode: `durations` asks at fixed times, `untimed` shows the image until the answer (as in
            HYPE-infinity), `staircase` adapts the time to each rater and source.
        trials: main trials of a sitting; practice and catch trials come on top.
        durations_ms: the times of mode `durations`.
        real_share: share of real images; None gives every source, real included, equal weight.
            Modes `untimed` and `staircase` always use one half.
        blocks: with a break between them.
        practice_trials: with feedback, of images that are not shown again.
        catch_trials: images that are plainly fake (shuffled pixels), spread over the blocks.
        examples: real images on the instruction page, not shown again.
        images_per_source: how many images are frozen for the main trials of each source.
        crop: center crop in pixels, applied to every larger source; None demands equal sizes.
        zoom: whole-number enlargement; None takes the largest that stays within 256 pixels.
        mask: what follows the image until the answer.
        fixation_ms: how long the cross is shown before each image.
        sides: whether "real" is the left or the right key; `balanced` alternates by rater.
        staircase: see `Staircase`.
        exclusion: see `Exclusion`.

    Source: Denton et al. (2015), section 5.3; Zhou et al. (2019) for the untimed mode.
    """

    model_config = _STRICT

    title: str = Field(default="Real or fake?", min_length=1, max_length=120)
    seed: int = Field(default=0, ge=0, lt=2**63)
    mode: Literal["durations", "untimed", "staircase"] = "durations"
    trials: int = Field(default=110, ge=1, le=2000)
    durations_ms: tuple[_Milliseconds, ...] = Field(default=PAPER_DURATIONS_MS, min_length=1)
    real_share: float | None = Field(default=None, gt=0, lt=1)
    blocks: int = Field(default=5, ge=1, le=50)
    practice_trials: int = Field(default=8, ge=0, le=50)
    catch_trials: int = Field(default=4, ge=0, le=50)
    examples: int = Field(default=8, ge=0, le=32)
    images_per_source: int = Field(default=120, ge=1, le=20_000)
    crop: int | None = Field(default=None, ge=4)
    zoom: int | None = Field(default=None, ge=1, le=64)
    mask: Literal["grey", "noise"] = "grey"
    fixation_ms: float = Field(default=500.0, ge=0, le=5000)
    sides: Literal["balanced", "real-left", "real-right"] = "balanced"
    staircase: Staircase = Staircase()
    exclusion: Exclusion = Exclusion()

    @model_validator(mode="after")
    def _consistent(self) -> "Design":
        if len(set(self.durations_ms)) < len(self.durations_ms):
            raise ValueError("durations_ms: expected different times, got one twice")
        if self.blocks > self.trials:
            raise ValueError("blocks: expected at most one block for each of the trials")
        return self

    @property
    def longest_ms(self) -> float | None:
        """The easiest time of this design; None when images stay until the answer."""
        if self.mode == "untimed":
            return None
        return max(self.durations_ms) if self.mode == "durations" else self.staircase.max_ms


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a sitting, as planned before the rater starts.

    Attributes:
        position: 0, 1, ... through the whole sitting.
        block: 0 for practice, then 1, 2, ...
        phase: `practice` (with feedback), `main` or `catch`.
        source: where the image comes from; `real` for real ones.
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


def read_design(path: Path | None, changes: Mapping[str, object] | None = None) -> Design:
    """Reads a `study.toml`; without one, the paper's design.

    Args:
        path: the file.
        changes: keys that replace those of the file.

    Raises:
        LapganError: the file is missing, no TOML, or has a key that is unknown or out of range.
    """
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
        return Design.model_validate({**keys, **(changes or {})})
    except OSError as error:
        raise LapganError(f"{path}: cannot be read ({error.strerror}). Give a file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LapganError(f"{path}: is not valid TOML ({error}).") from error
    except ValidationError as error:
        raise LapganError(f"{path or 'options'}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the design"
    return f"{where}: {problem['msg']}, got {problem['input']!r}. Correct this key."


def pool_sizes(design: Design, fakes: Sequence[str]) -> dict[Phase, dict[str, int]]:
    """How many images of each source and phase a study must freeze.

    Raises:
        LapganError: `images_per_source` is smaller than what one rater sees of a source.
    """
    needed = _most_seen(design, fakes)
    for source, count in needed.items():
        if design.images_per_source < count:
            raise LapganError(
                f"images_per_source: one rater sees {count} images of {source!r} and none twice, "
                f"got {design.images_per_source}. Raise it to {count} or more, or lower trials."
            )
    practice = _split_practice(design, fakes)
    return {
        "practice": {source: practice.count(source) for source in dict.fromkeys(practice)},
        "main": dict.fromkeys([REAL, *fakes], design.images_per_source),
        "catch": {CATCH: 2 * design.catch_trials} if design.catch_trials else {},
    }


def real_is_left(design: Design, rater_index: int) -> bool:
    """Whether the left key means real for this rater."""
    if design.sides == "balanced":
        return rater_index % 2 == 0
    return design.sides == "real-left"


def plan_sitting(
    design: Design, fakes: Sequence[str], pools: Pools, rater_index: int
) -> list[PlannedTrial]:
    """Plans one rater's sitting: practice, then blocks of main and catch trials.

    Images are dealt so that none comes twice to a rater, and so that over raters all images of a
    source are shown equally often.

    Args:
        design: the study's design.
        fakes: names of the fake sources.
        pools: frozen stimuli by phase and source, as large as `pool_sizes` says.
        rater_index: 0, 1, ... in order of arrival.
    """
    rng = np.random.default_rng([design.seed, rater_index, 1])
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
    """The next presentation time of a staircase.

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


# (phase, source, staircase, stimulus, asked_ms): a trial before it has a place.
_Loose = tuple[Phase, str, str | None, str, float | None]


def _weights(design: Design, fakes: Sequence[str]) -> dict[str, float]:
    share = design.real_share if design.mode == "durations" else 0.5
    if share is None:
        share = 1 / (len(fakes) + 1)
    return {REAL: share, **dict.fromkeys(fakes, (1 - share) / len(fakes))}


def _quotas(weights: Mapping[str, float], total: int, turn: int) -> dict[str, int]:
    """Whole numbers that sum to `total`; what is left over goes round with `turn`."""
    exact = {source: weight * total for source, weight in weights.items()}
    quotas = {source: int(value + 1e-9) for source, value in exact.items()}
    left = total - sum(quotas.values())
    names = list(weights)
    start = turn * left % len(names)
    rotated = names[start:] + names[:start]
    by_remainder = sorted(rotated, key=lambda source: round(quotas[source] - exact[source], 9))
    for source in by_remainder[:left]:
        quotas[source] += 1
    return quotas


def _most_seen(design: Design, fakes: Sequence[str]) -> dict[str, int]:
    turns = [
        _quotas(_weights(design, fakes), design.trials, turn) for turn in range(len(fakes) + 1)
    ]
    return {source: max(quotas[source] for quotas in turns) for source in turns[0]}


def _deal_main(
    design: Design,
    fakes: Sequence[str],
    pools: Mapping[str, Sequence[str]],
    rater_index: int,
    rng: np.random.Generator,
) -> list[_Loose]:
    quotas = _quotas(_weights(design, fakes), design.trials, rater_index)
    windows = _most_seen(design, fakes)
    images = [
        (source, image)
        for place, (source, count) in enumerate(quotas.items())
        for image in _window(design, place, pools[source], rater_index * windows[source], count)
    ]
    times = _times(design, rng)
    # Neighbors in this list share a source, so going round the times balances every cell.
    stairs = _stairs(design, fakes, quotas, rater_index)
    return [
        ("main", source, stair, image, times[number % len(times)])
        for number, ((source, image), stair) in enumerate(zip(images, stairs, strict=True))
    ]


def _window(design: Design, place: int, pool: Sequence[str], start: int, count: int) -> list[str]:
    order = np.random.default_rng([design.seed, place, 0]).permutation(len(pool))
    return [pool[order[(start + step) % len(pool)]] for step in range(count)]


def _times(design: Design, rng: np.random.Generator) -> list[float | None]:
    if design.mode != "durations":
        return [None]
    return [float(time) for time in rng.permutation(design.durations_ms)]


def _stairs(
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
    left = {source: list(images) for source, images in pools["practice"].items()}
    sources = _split_practice(design, fakes)
    rng.shuffle(sources)
    return [
        (0, "practice", source, None, left[source].pop(), time)
        for source, time in zip(sources, _practice_times(design), strict=True)
    ]


def _practice_times(design: Design) -> list[float | None]:
    longest = design.longest_ms
    if longest is None:
        return [None] * design.practice_trials
    if design.mode == "staircase":
        return [design.staircase.start_ms] * design.practice_trials
    slow_to_quick = sorted(design.durations_ms, reverse=True)
    steps = np.linspace(0, len(slow_to_quick) - 1, design.practice_trials)
    return [slow_to_quick[round(step)] for step in steps]


def _deal_catches(design: Design, pools: Pools, rng: np.random.Generator) -> list[_Loose]:
    if not design.catch_trials:
        return []
    images = rng.permutation(list(pools["catch"][CATCH]))[: design.catch_trials]
    return [("catch", CATCH, None, str(image), design.longest_ms) for image in images]
