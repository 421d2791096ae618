"""Simulated raters of known sensitivity: for tests, power analysis and demonstrations.

Their answers are marked as simulated wherever they are stored or shown.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr

from lapgan.errors import LapganError
from lapgan.study.answers import MEASURED, Answer, Row, add_truth, is_correct, neutral_row
from lapgan.study.design import REAL, Design
from lapgan.study.planning import (
    PlannedTrial,
    plan_sitting,
    pool_sizes,
    real_is_left,
    staircase_ms,
)
from lapgan.study.store import Store

__all__ = ["Observers", "Population", "ThresholdObservers", "simulate_into", "simulate_rows"]

_HZ = 60.0
# Probability of answering "real" to an image of a source shown for a time (None: untimed).
Rater = Callable[[str, float | None], float]


class Population(Protocol):
    """A distribution of simulated raters."""

    def draw(self, rng: np.random.Generator) -> Rater:
        """Draws one rater."""


@dataclass(frozen=True)
class Observers:
    """Raters of signal detection theory.

    Evidence is N(0, 1) for a real image and N(-d(t), 1) for a fake one; a rater says real above
    a criterion of their own. d(t) = d' t / (t + half_ms) grows with the time.

    Args:
        d_prime: sensitivity to each fake source without time limit.
        half_ms: time at which half of it is reached.
        criterion: mean criterion; below zero, raters tend to say "real".
        criterion_std: standard deviation of the criterion between raters.
        lapse: share of trials that are answered at random.

    References:
        Green and Swets (1966), Signal detection theory and psychophysics.
    """

    d_prime: Mapping[str, float]
    half_ms: float = 0.0
    criterion: float = 0.0
    criterion_std: float = 0.0
    lapse: float = 0.0

    def draw(self, rng: np.random.Generator) -> Rater:
        """Draws one rater, with a criterion of their own."""
        criterion = rng.normal(self.criterion, self.criterion_std)
        return lambda source, time: self._says_real(source, time, criterion, 1.0)

    def share(self, source: str, time: float | None) -> float:
        """Returns the population's share judged real: E[Phi(a + s Z)] = Phi(a / sqrt(1 + s^2))."""
        scale = float(np.sqrt(1 + self.criterion_std**2))
        return self._says_real(source, time, self.criterion, scale)

    def _says_real(self, source: str, time: float | None, criterion: float, scale: float) -> float:
        reached = 1.0 if time is None else time / (time + self.half_ms)
        distance = 0.0 if source == REAL else self.d_prime.get(source, 4.0) * reached
        judged = ndtr((-distance - criterion) / scale)
        return float((1 - self.lapse) * judged + self.lapse / 2)


@dataclass(frozen=True)
class ThresholdObservers:
    """Raters with known threshold times, equal for real and fake images.

    The logarithms (base 10) of the raters' thresholds are distributed around the population's as
    N(0, between_std^2), and
    P(correct) = 1/2 + (1/2 - lapse) Phi((log10 t - log10 threshold) / std).

    Args:
        threshold_ms: by fake source; real images have that of the first.
        std: of the normal distribution function, in log10 units.
        lapse: distance of the upper asymptote from one.
        between_std: standard deviation of log10 thresholds between raters. The population's own
            function has the same threshold and the standard deviation
            sqrt(std^2 + between_std^2).
    """

    threshold_ms: Mapping[str, float]
    std: float = 0.25
    lapse: float = 0.02
    between_std: float = 0.0

    def draw(self, rng: np.random.Generator) -> Rater:
        """Draws one rater, with a threshold of their own."""
        first = next(iter(self.threshold_ms.values()))
        factor = 10 ** rng.normal(0.0, self.between_std)

        def rater(source: str, time: float | None) -> float:
            threshold = self.threshold_ms.get(source, first)
            place = np.inf if time is None else np.log10(time / threshold / factor) / self.std
            correct = float(0.5 + (0.5 - self.lapse) * ndtr(place))
            return correct if source == REAL else 1 - correct

        return rater


def simulate_rows(
    design: Design,
    fakes: Sequence[str],
    population: Population,
    raters: int,
    rng: np.random.Generator,
    salt: str = "",
) -> list[Row]:
    """Simulates whole sittings without a server; returns rows like those of `Store.rows`.

    Args:
        design: the study's design.
        fakes: names of the fake sources.
        population: where raters are drawn from.
        raters: number of raters.
        rng: source of randomness.
        salt: of the study (see `plan_sitting`).
    """
    pools: Any = {
        phase: {source: [f"{phase}-{source}-{i}" for i in range(n)] for source, n in counts.items()}
        for phase, counts in pool_sizes(design, fakes).items()
    }
    rows = []
    for index in range(raters):
        identity = {"rater": f"S-{index}", "real_left": real_is_left(design, index)}
        trials = plan_sitting(design, fakes, pools, index, salt)
        sitting = _simulate_sitting(design, trials, population.draw(rng), rng)
        rows += [{**row, **identity} for row in sitting]
    return rows


def simulate_into(
    store: Store, population: Population, raters: int, rng: np.random.Generator
) -> None:
    """Lets simulated raters take part in a study, through the same store as people.

    Args:
        store: the study's answers; the raters are marked as simulated there.
        population: where raters are drawn from.
        raters: number of raters.
        rng: source of randomness.

    Raises:
        LapganError: people have taken part already.
    """
    if any(not rater["simulated"] for rater in store.progress()):
        raise LapganError(
            "simulate: people have taken part in this study, and simulated raters are never mixed "
            "with them. Simulate into a study of its own."
        )
    for _ in range(raters):
        token = store.join(simulated=True).result()
        rater = population.draw(rng)
        while (view := store.sitting(token).next) is not None:
            said_real = rng.random() < rater(store.source_of(view.image), view.asked_ms)
            answer = Answer(
                trial=view.trial,
                answer="real" if said_real else "fake",
                **_measure(view.asked_ms, rng),
            )
            store.answer(token, answer).result()


def _simulate_sitting(
    design: Design, trials: Sequence[PlannedTrial], rater: Rater, rng: np.random.Generator
) -> list[Row]:
    rows = []
    outcomes: dict[str | None, list[bool]] = defaultdict(list)
    for trial in trials:
        row = {**neutral_row(), **vars(trial), "simulated": True}
        row["trial"] = str(trial.position)
        if trial.staircase is not None:
            row["asked_ms"] = staircase_ms(design.staircase, outcomes[trial.staircase])
        row["said_real"] = bool(rng.random() < rater(trial.source, row["asked_ms"]))
        outcomes[trial.staircase].append(is_correct(trial.source, row["said_real"]))
        rows.append(add_truth({**row, **_measure(row["asked_ms"], rng)}))
    return rows


def _measure(asked_ms: float | None, rng: np.random.Generator) -> Row:
    """Returns what a perfect 60 Hz screen would measure, with a random time to decide."""
    thinking = float(rng.lognormal(np.log(650), 0.35))
    frames = round((thinking if asked_ms is None else asked_ms) * _HZ / 1000)
    achieved = frames * 1000 / _HZ
    neutral = neutral_row()
    return {
        **{name: neutral[name] for name in MEASURED},
        "response_ms": thinking if asked_ms is None else achieved + thinking,
        "achieved_ms": achieved,
        "frames": frames,
        "refresh_hz": _HZ,
        "input": "keyboard",
    }
