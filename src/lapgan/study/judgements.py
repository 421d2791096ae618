"""Answered trials as columns, and the rules for which of them are analyzed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lapgan.study.answers import COLUMNS, NEUTRAL, Kind
from lapgan.study.design import Exclusion

__all__ = ["Judgements", "exclusion_reasons", "is_rushed", "is_within_frames", "select_trials"]

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

_CLOCK_MS = 100.0  # allowed for half frames at both ends and for the clocks

_DTYPES: Mapping[Kind, Any] = {
    "text": np.str_,
    "boolean": np.bool_,
    "integer": np.float64,
    "number": np.float64,
}


@dataclass(frozen=True)
class Judgements:
    """N answered trials: the columns that the analysis reads, each an array of length N.

    `answers.COLUMNS` gives their types and meanings. `asked_ms` is NaN where the image stayed until
    the answer.
    """

    rater: Texts
    simulated: Flags
    phase: Texts
    source: Texts
    staircase: Texts
    stimulus: Texts
    real: Flags
    said_real: Flags
    correct: Flags
    hidden: Flags
    resumed: Flags
    asked_ms: Numbers
    achieved_ms: Numbers
    refresh_hz: Numbers
    dropped_frames: Numbers
    response_ms: Numbers
    answered_at: Texts

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "Judgements":
        """Returns the columns of rows from `Store.rows` or `simulate_rows`."""
        return cls(**{item.name: _read_column(rows, item.name) for item in fields(cls)})

    @classmethod
    def from_columns(cls, **columns: npt.NDArray[Any]) -> "Judgements":
        """Returns judgements with these columns; all others have neutral values."""
        count = len(next(iter(columns.values())))
        neutral = {item.name: NEUTRAL[COLUMNS[item.name].kind] for item in fields(cls)}
        filled = {name: np.full(count, value) for name, value in neutral.items()}
        return cls(**{**filled, **columns})

    def __len__(self) -> int:
        return len(self.rater)

    def where(self, keep: Flags) -> "Judgements":
        """Returns the trials for which `keep` is true."""
        return Judgements(**{item.name: getattr(self, item.name)[keep] for item in fields(self)})


def exclusion_reasons(
    judgements: Judgements, rules: Exclusion, fixation_ms: float = 0.0
) -> dict[str, list[str]]:
    """Returns the raters whom the rules leave out, each with the reasons.

    Args:
        judgements: all answers, practice and catch trials included.
        rules: the study's rules, fixed before the first answer.
        fixation_ms: how long the cross is shown before each image.
    """
    reasons = {
        rater: _list_reasons(judgements.where(judgements.rater == rater), rules, fixation_ms)
        for rater in dict.fromkeys(judgements.rater.tolist())
    }
    return {rater: texts for rater, texts in reasons.items() if texts}


def select_trials(
    judgements: Judgements, rules: Exclusion, excluded: Mapping[str, object]
) -> tuple[Judgements, dict[str, int]]:
    """Selects the main trials that are analyzed, and counts those that each rule leaves out.

    Args:
        judgements: all answers.
        rules: the study's rules.
        excluded: raters to leave out.

    Returns:
        The selected trials, and counts by rule. A trial is counted at the first rule that leaves
        it out.
    """
    main = judgements.where(judgements.phase == "main")
    exclusions: dict[str, Flags] = {
        "rater left out": np.isin(main.rater, list(excluded)),
        "page hidden": main.hidden & rules.drop_hidden,
        "begun again after a reload": main.resumed & rules.drop_resumed,
        "shown too long or too short": ~is_within_frames(main, rules.timing_frames),
    }
    remaining = np.ones(len(main), dtype=np.bool_)
    counts = {}
    for rule, flags in exclusions.items():
        counts[rule] = int(np.sum(remaining & flags))
        remaining &= ~flags
    return main.where(remaining), counts


def is_within_frames(judgements: Judgements, frames: float = 1.0) -> Flags:
    """Returns whether |achieved - asked| is at most `frames` frames of the screen.

    One millisecond is allowed for the clocks' rounding. Untimed trials are always within.
    """
    error = np.abs(judgements.achieved_ms - judgements.asked_ms)
    return np.isnan(error) | (error <= frames * 1000 / judgements.refresh_hz + 1)


def is_rushed(mine: Judgements, fixation_ms: float) -> Flags:
    """Returns which answers of one rater were stored sooner than they can have been given.

    From one stored answer to the next, at least the cross, the image and the response to it must
    pass on the server's clock; 100 ms are allowed for frames and clocks. The first answer, and
    those of simulated raters, who do not wait, are never rushed.

    Args:
        mine: all answers of one rater, in order.
        fixation_ms: how long the cross is shown before each image.
    """
    stored = np.array([text[:23] for text in mine.answered_at], dtype="datetime64[ms]")
    gaps = np.full(len(mine), np.nan)
    gaps[1:] = np.diff(stored) / np.timedelta64(1, "ms")
    needed = fixation_ms + np.fmax(mine.asked_ms, mine.response_ms)
    rushed: Flags = (gaps + _CLOCK_MS < needed) & ~mine.simulated
    return rushed


def _read_column(rows: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[Any]:
    kind = COLUMNS[name].kind
    # None means not applicable: no staircase (an empty text), no time limit (NaN).
    values = [row[name] or "" if kind == "text" else row[name] for row in rows]
    return np.array(values, dtype=_DTYPES[kind])


def _list_reasons(mine: Judgements, rules: Exclusion, fixation_ms: float) -> list[str]:
    main = mine.where(mine.phase == "main")
    reasons = []
    if len(main) < rules.min_answers:
        reasons.append(f"{len(main)} main answers, fewer than {rules.min_answers}")
    if not len(main):
        return reasons
    share = float(main.said_real.mean())
    if len(main) >= 20 and max(share, 1 - share) >= rules.one_key_share:
        reasons.append(f"one answer in {max(share, 1 - share):.0%} of trials")
    fast = float((main.response_ms < rules.fast_ms).mean())
    if fast > rules.fast_share:
        reasons.append(f"{fast:.0%} of answers within {rules.fast_ms:g} ms of the onset")
    rushed = float(is_rushed(mine, fixation_ms).mean())
    if rushed > rules.rushed_share:
        reasons.append(f"{rushed:.0%} of answers sooner than their images can have been shown")
    failed = int(mine.said_real[mine.phase == "catch"].sum())
    if failed > rules.failed_catch:
        reasons.append(f"{failed} catch images called real")
    return reasons
