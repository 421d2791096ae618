"""Answered trials as columns, and which of them the analysis keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lapgan.study.design import Exclusion

__all__ = ["Judgements", "excluded_raters", "kept_trials", "within_a_frame"]

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Judgements:
    """N answered trials, one array of length N a column; see `export.COLUMNS` for the meanings.

    `asked_ms` is NaN where the image stayed until the answer.
    """

    rater: Texts
    phase: Texts
    source: Texts
    staircase: Texts
    stimulus: Texts
    real: Flags
    said_real: Flags
    hidden: Flags
    resumed: Flags
    asked_ms: Numbers
    achieved_ms: Numbers
    refresh_hz: Numbers
    dropped_frames: Numbers
    response_ms: Numbers

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "Judgements":
        """Columns of the rows that `Store.rows` and `simulate_rows` give."""
        texts = ("rater", "phase", "source", "staircase", "stimulus")
        flags = ("real", "said_real", "hidden", "resumed")
        columns: dict[str, npt.NDArray[Any]] = {}
        for column in fields(cls):
            values = [row[column.name] for row in rows]
            if column.name in texts:
                columns[column.name] = np.array([value or "" for value in values], dtype=np.str_)
            elif column.name in flags:
                columns[column.name] = np.array(values, dtype=np.bool_)
            else:
                columns[column.name] = np.array(values, dtype=np.float64)
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.rater)

    def where(self, keep: Flags) -> "Judgements":
        """The trials for which `keep` is true."""
        return Judgements(**{item.name: getattr(self, item.name)[keep] for item in fields(self)})


def excluded_raters(judgements: Judgements, rules: Exclusion) -> dict[str, list[str]]:
    """Raters whom the rules leave out, each with the reasons.

    Args:
        judgements: all answers, practice and catch trials included.
        rules: the study's rules, fixed before the first answer.
    """
    found: dict[str, list[str]] = {}
    for rater in dict.fromkeys(judgements.rater.tolist()):
        reasons = _reasons(judgements.where(judgements.rater == rater), rules)
        if reasons:
            found[rater] = reasons
    return found


def kept_trials(
    judgements: Judgements, rules: Exclusion, excluded: Mapping[str, object]
) -> tuple[Judgements, dict[str, int]]:
    """Main trials that enter the analysis, and how many each rule took away.

    Args:
        judgements: all answers.
        rules: the study's rules.
        excluded: raters to leave out.

    Returns:
        The trials kept, and counts by rule; a trial counts at the first rule that takes it.
    """
    main = judgements.where(judgements.phase == "main")
    taken: dict[str, Flags] = {
        "rater left out": np.isin(main.rater, list(excluded)),
        "page hidden": main.hidden & rules.drop_hidden,
        "begun again after a reload": main.resumed & rules.drop_resumed,
        "shown too long or too short": ~within_a_frame(main, rules.timing_frames),
    }
    left = np.ones(len(main), dtype=np.bool_)
    counts = {}
    for rule, taken_by in taken.items():
        counts[rule] = int(np.sum(left & taken_by))
        left &= ~taken_by
    return main.where(left), counts


def within_a_frame(judgements: Judgements, frames: float = 1.0) -> Flags:
    """Whether |achieved - asked| <= `frames` frames of the screen; untimed trials are within.

    One millisecond is allowed for the clocks' rounding.
    """
    error = np.abs(judgements.achieved_ms - judgements.asked_ms)
    return np.isnan(error) | (error <= frames * 1000 / judgements.refresh_hz + 1)


def _reasons(mine: Judgements, rules: Exclusion) -> list[str]:
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
    failed = int(mine.said_real[mine.phase == "catch"].sum())
    if failed > rules.failed_catch:
        reasons.append(f"{failed} catch images called real")
    return reasons
