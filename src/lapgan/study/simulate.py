"""Raters that are programs with known sensitivity: for tests, power analysis, demonstrations.

Whatever they answer is marked as simulated wherever it is stored or shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr

from lapgan.study.design import REAL, Design, plan_sitting, pool_sizes, staircase_ms
from lapgan.study.store import Answer, Store

__all__ = ["Observers", "Population", "ThresholdObservers", "simulate_into", "simulate_rows"]

_HZ = 60.0
# Probability of answering "real" to an image of a source shown for a time (None: untimed).
Rater = Callable[[str, float | None], float]


class Population(Protocol):
    """From where simulated raters are drawn."""

    def draw(self, rng: np.random.Generator) -> Rater:
        """One rater."""


@dataclass(frozen=True)
class Observers:
    """Raters of signal detection theory.

    Evidence is N(0, 1) for a real image and N(-d(t), 1) for a fake one; a rater says real above
    an own criterion. d(t) = d' t / (t + half_ms) grows with the time.

    Attributes:
        d_prime: sensitivity to each fake source without time limit.
        half_ms: time at which half of it is reached.
        criterion: mean criterion; below zero leans to "real".
        spread: standard deviation of the criterion between raters.
        lapse: share of trials answered by the toss of a coin.

    Source: Green & Swets (1966), Signal detection theory and psychophysics.
    """

    d_prime: Mapping[str, float]
    half_ms: float = 0.0
    criterion: float = 0.0
    spread: float = 0.0
    lapse: float = 0.0

    def draw(self, rng: np.random.Generator) -> Rater:
        """One rater, with an own criterion."""
        criterion = rng.normal(self.criterion, self.spread)
        return lambda source, time: self._says_real(source, time, criterion, 1.0)

    def share(self, source: str, time: float | None) -> float:
        """The whole population's share judged real: E[Phi(a + s Z)] = Phi(a / sqrt(1 + s^2))."""
        scale = float(np.sqrt(1 + self.spread**2))
        return self._says_real(source, time, self.criterion, scale)

    def _says_real(self, source: str, time: float | None, criterion: float, scale: float) -> float:
        reached = 1.0 if time is None else time / (time + self.half_ms)
        distance = 0.0 if source == REAL else self.d_prime.get(source, 4.0) * reached
        judged = ndtr((-distance - criterion) / scale)
        return float((1 - self.lapse) * judged + self.lapse / 2)


@dataclass(frozen=True)
class ThresholdObservers:
    """Raters with known threshold times, equal for real and fake images.

    log10 of a rater's thresholds is N(0, between) off the population's, and
    P(correct) = 1/2 + (1/2 - lapse) Phi((log10 t - log10 threshold) / spread).

    Attributes:
        threshold_ms: by fake source; real images take that of the first.
        spread: of the normal distribution function, in log10 units.
        lapse: distance of the upper asymptote from one.
        between: standard deviation of log10 thresholds between raters. The population's own
            function has the same threshold and the spread sqrt(spread^2 + between^2).
    """

    threshold_ms: Mapping[str, float]
    spread: float = 0.25
    lapse: float = 0.02
    between: float = 0.0

    def draw(self, rng: np.random.Generator) -> Rater:
        """One rater, with an own threshold."""
        first = next(iter(self.threshold_ms.values()))
        own = 10 ** rng.normal(0.0, self.between)

        def rater(source: str, time: float | None) -> float:
            threshold = self.threshold_ms.get(source, first)
            place = np.inf if time is None else np.log10(time / threshold / own) / self.spread
            correct = float(0.5 + (0.5 - self.lapse) * ndtr(place))
            return correct if source == REAL else 1 - correct

        return rater


def simulate_rows(
    design: Design,
    fakes: Sequence[str],
    population: Population,
    raters: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Whole sittings without a server: rows like those of `Store.rows`.

    Args:
        design: the study's design.
        fakes: names of the fake sources.
        population: where raters come from.
        raters: how many.
        rng: source of randomness.
    """
    pools: Any = {
        phase: {source: [f"{phase}-{source}-{i}" for i in range(n)] for source, n in counts.items()}
        for phase, counts in pool_sizes(design, fakes).items()
    }
    rows = []
    for index in range(raters):
        rater = population.draw(rng)
        outcomes: dict[str, list[bool]] = {fake: [] for fake in fakes}
        for trial in plan_sitting(design, fakes, pools, index):
            stair = trial.staircase
            asked = trial.asked_ms
            if stair is not None:
                asked = staircase_ms(design.staircase, outcomes[stair])
            said_real = bool(rng.random() < rater(trial.source, asked))
            if stair is not None:
                outcomes[stair].append(said_real == (trial.source == REAL))
            shown = {"rater": f"S-{index}", "simulated": True, "asked_ms": asked}
            truth = {"real": trial.source == REAL, "said_real": said_real}
            rows.append({**vars(trial), **shown, **truth, **_screen(asked, rng)})
    return rows


def simulate_into(
    store: Store, population: Population, raters: int, rng: np.random.Generator
) -> None:
    """Lets simulated raters take the study, through the same store as people.

    Args:
        store: the study's answers; the raters are marked as simulated there.
        population: where raters come from.
        raters: how many.
        rng: source of randomness.
    """
    for _ in range(raters):
        token = store.join(simulated=True).result()
        rater = population.draw(rng)
        while (following := store.sitting(token).next) is not None:
            view = following
            probability = rater(store.source_of(view.image), view.asked_ms)
            said = "real" if rng.random() < probability else "fake"
            screen = _screen(view.asked_ms, rng)
            answer = Answer.model_validate(
                {"trial": view.trial, "answer": said, "input": "keyboard", **screen}
            )
            store.answer(token, answer).result()


def _screen(asked: float | None, rng: np.random.Generator) -> dict[str, Any]:
    thinking = float(rng.lognormal(np.log(650), 0.35))
    frames = round((thinking if asked is None else asked) * _HZ / 1000)
    achieved = frames * 1000 / _HZ
    return {
        "response_ms": thinking if asked is None else achieved + thinking,
        "achieved_ms": achieved,
        "frames": frames,
        "refresh_hz": _HZ,
        "dropped_frames": 0,
        "hidden": False,
        "resumed": False,
    }
