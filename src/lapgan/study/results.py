"""All results of a study: what the report shows, and its JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lapgan.study.analysis import (
    Estimate,
    Resampling,
    Share,
    Timing,
    hype_error,
    krippendorff_alpha,
    measure_timing,
    sensitivity,
    share_difference,
    share_judged_real,
)
from lapgan.study.design import REAL
from lapgan.study.judgements import (
    Judgements,
    exclusion_reasons,
    is_within_frames,
    select_trials,
)
from lapgan.study.published import DGM_EVAL_CIFAR10_ERROR, PAPER_AT_2000_MS
from lapgan.study.stimuli import Manifest
from lapgan.study.thresholds import PsychometricFit, fit_threshold

__all__ = [
    "Difference",
    "ImageCount",
    "RaterCounts",
    "Results",
    "SensitivityCell",
    "ShareCell",
    "TimingSummary",
    "TrialCounts",
    "compute_results",
    "results_to_json",
]


@dataclass(frozen=True)
class RaterCounts:
    """Numbers of raters: people, or simulated raters if nobody else has taken part.

    Args:
        joined: who agreed to take part; None if it is not known.
        joined_and_answered: who answered at least once.
        practice_only: who stopped before the first main trial.
        finished: who answered everything; None if it is not known.
        analysed: who have trials that are analyzed.
        left_out: the reasons by rater.
        simulated: how many of the raters in this report are simulated.
        simulated_left_out: simulated raters that are left out because people have taken part.
    """

    joined: int | None
    joined_and_answered: int
    practice_only: int
    finished: int | None
    analysed: int
    left_out: Mapping[str, Sequence[str]]
    simulated: int
    simulated_left_out: int


@dataclass(frozen=True)
class TrialCounts:
    """Numbers of main trials. `left_out` counts them by rule."""

    analysed: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class ShareCell:
    """The share judged real of one source, at one time (ms) or over all (None)."""

    source: str
    asked_ms: float | None
    share: Share


@dataclass(frozen=True)
class ImageCount:
    """How often one image was judged, and judged real, over all times."""

    name: str
    answers: int
    judged_real: int


@dataclass(frozen=True)
class SensitivityCell:
    """Sensitivity and bias of one fake source, at one time (ms) or over all (None)."""

    source: str
    asked_ms: float | None
    d_prime: Estimate
    bias: Estimate


@dataclass(frozen=True)
class Difference:
    """The share judged real of one fake source less that of another, over all times.

    `p_value` is that of the hypothesis that both are equal; None where it is undefined.
    """

    one: str
    other: str
    difference: Estimate
    p_value: float | None


@dataclass(frozen=True)
class TimingSummary:
    """How precisely images were shown, practice left out.

    Args:
        trials: number of trials with a requested time.
        within_a_frame: share of them that were right within one frame; None without any.
        refresh_hz: the refresh rates of the raters' screens.
        by_time: one row per requested time.
    """

    trials: int
    within_a_frame: float | None
    refresh_hz: Sequence[int]
    by_time: Sequence[Timing]


@dataclass(frozen=True)
class Results:
    """All results of one study.

    Args:
        manifest: of the study.
        answers: number of answers, practice and catch trials included.
        first_answer: time of the first answer, ISO 8601; None if there is none.
        last_answer: time of the last answer.
        raters: how many there were and were analyzed.
        trials: how many were analyzed.
        shares: by source, over all times and then at each.
        sensitivity: by fake source, over all times and then at each.
        error_rates: HYPE error rates by fake source.
        thresholds: psychometric functions by fake source; None where none can be fitted.
        agreement: Krippendorff's alpha by source; None where it is undefined.
        differences: of the shares judged real, between every two fake sources.
        timing: how precisely images were shown.
        images: by source, those that were judged real most often first; not in `report.json`.
    """

    manifest: Manifest
    answers: int
    first_answer: str | None
    last_answer: str | None
    raters: RaterCounts
    trials: TrialCounts
    shares: Sequence[ShareCell]
    sensitivity: Sequence[SensitivityCell]
    error_rates: Mapping[str, Estimate]
    thresholds: Mapping[str, PsychometricFit | None]
    agreement: Mapping[str, float | None]
    differences: Sequence[Difference]
    timing: TimingSummary
    images: Mapping[str, Sequence[ImageCount]]

    @property
    def is_cifar10(self) -> bool:
        """Whether the real images are CIFAR-10's, so that published figures may be compared."""
        name = self.manifest.sources[REAL].lower().replace("-", "").replace("_", "")
        return "cifar10" in name and "cifar100" not in name


def compute_results(
    manifest: Manifest,
    rows: Sequence[Mapping[str, Any]],
    replicates: int = 2000,
    progress: Sequence[Mapping[str, Any]] = (),
) -> Results:
    """Analyzes every answer of a study by the rules that its manifest froze.

    Simulated raters are never mixed with people: they are left out if anybody else has answered.

    Args:
        manifest: of the study.
        rows: from `Store.rows`.
        replicates: number of bootstrap samples of the raters, seeded by the design's seed.
        progress: from `Store.progress`, for the numbers of raters who joined and finished.
    """
    rows, programs = _leave_out_programs(rows)
    everything = Judgements.from_rows(rows)
    rules = manifest.design.exclusion
    excluded = exclusion_reasons(everything, rules, manifest.design.fixation_ms)
    selected, left_out = select_trials(everything, rules, excluded)
    rng = np.random.default_rng([manifest.design.seed, 4])
    resampling = Resampling(selected.rater.tolist(), replicates, rng)
    times = sorted(row["answered_at"] for row in rows if row["answered_at"])
    raters = _count_raters(rows, progress) | {"analysed": len(resampling.raters)}
    return Results(
        manifest=manifest,
        answers=len(rows),
        first_answer=times[0] if times else None,
        last_answer=times[-1] if times else None,
        raters=RaterCounts(**raters, left_out=excluded, simulated_left_out=programs),
        trials=TrialCounts(len(selected), left_out),
        shares=_compute_shares(manifest, selected, resampling),
        sensitivity=_compute_sensitivities(manifest, selected, resampling),
        error_rates={fake: hype_error(selected, fake, resampling) for fake in manifest.fakes},
        thresholds={fake: fit_threshold(selected, fake, resampling) for fake in manifest.fakes},
        agreement=_measure_agreement(manifest, selected),
        differences=_compare_sources(manifest.fakes, selected, resampling),
        timing=_summarize_timing(everything),
        images={
            source: _rank_images(selected.where(selected.source == source))
            for source in manifest.sources
        },
    )


def results_to_json(results: Results) -> dict[str, Any]:
    """Returns results as the content of `report.json`."""
    content = asdict(results)
    del content["manifest"], content["images"]
    dates = {name: content.pop(name) for name in ("answers", "first_answer", "last_answer")}
    published = {
        "paper_at_2000_ms": dict(PAPER_AT_2000_MS),
        "dgm_eval_cifar10_error": dict(DGM_EVAL_CIFAR10_ERROR),
    }
    return {
        "study": {**results.manifest.model_dump(mode="json", exclude={"stimuli", "salt"}), **dates},
        **content,
        "shares": [_share_to_json(cell) for cell in results.shares],
        "published": published if results.is_cifar10 else {},
    }


def _leave_out_programs(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Returns the rows of people and the number of simulated raters left out, if there are people.

    Without any, all rows are returned.
    """
    people = [row for row in rows if not row["simulated"]]
    if not people:
        return rows, 0
    return people, len({row["rater"] for row in rows if row["simulated"]})


def _measure_agreement(manifest: Manifest, selected: Judgements) -> dict[str, float | None]:
    return {
        source: krippendorff_alpha(selected.where(selected.source == source))
        for source in manifest.sources
    }


def _rank_images(mine: Judgements) -> list[ImageCount]:
    """Ranks by (judged real + 1) / (answers + 2), so that one answer ranks below many alike."""
    names, at = np.unique(mine.stimulus, return_inverse=True)
    answers, real = np.bincount(at), np.bincount(at, weights=mine.said_real)
    order = np.argsort(-(real + 1) / (answers + 2), kind="stable")
    return [ImageCount(str(names[i]), int(answers[i]), int(real[i])) for i in order]


def _count_raters(
    rows: Sequence[Mapping[str, Any]], progress: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts raters of the kind that `rows` has: people or simulated ones."""
    answered = {row["rater"] for row in rows}
    programs = {row["rater"] for row in rows if row["simulated"]}
    mine = [rater for rater in progress if bool(rater["simulated"]) == bool(programs)]
    return {
        "joined": len(mine) if progress else None,
        "joined_and_answered": len(answered),
        "practice_only": len(answered - {row["rater"] for row in rows if row["phase"] == "main"}),
        "finished": sum(rater["finished_at"] is not None for rater in mine) if progress else None,
        "simulated": len(programs),
    }


def _share_to_json(cell: ShareCell) -> dict[str, Any]:
    identity = {"source": cell.source, "asked_ms": cell.asked_ms, "interval": cell.share.interval}
    return {**identity, **asdict(cell.share)}


def _split_by_time(
    judgements: Judgements, times: Sequence[float]
) -> Iterator[tuple[float | None, Judgements]]:
    """Yields all of the judgements (None), then those at each time."""
    yield None, judgements
    for time in times:
        yield time, judgements.where(judgements.asked_ms == time)


def _compute_shares(
    manifest: Manifest, selected: Judgements, resampling: Resampling
) -> list[ShareCell]:
    times = _list_times(selected, manifest)
    return [
        ShareCell(source, time, share_judged_real(part, resampling))
        for source in manifest.sources
        for time, part in _split_by_time(selected.where(selected.source == source), times)
    ]


def _compute_sensitivities(
    manifest: Manifest, selected: Judgements, resampling: Resampling
) -> list[SensitivityCell]:
    times = _list_times(selected, manifest)
    return [
        SensitivityCell(fake, time, *sensitivity(part, fake, resampling))
        for fake in manifest.fakes
        for time, part in _split_by_time(
            selected.where((selected.source == fake) | (selected.source == REAL)), times
        )
    ]


def _compare_sources(
    fakes: Sequence[str], selected: Judgements, resampling: Resampling
) -> list[Difference]:
    differences = []
    for one, other in combinations(fakes, 2):
        estimate, p = share_difference(selected, one, other, resampling)
        differences.append(Difference(one, other, estimate, p if np.isfinite(p) else None))
    return differences


def _list_times(selected: Judgements, manifest: Manifest) -> list[float]:
    if manifest.design.mode != "durations":
        return []
    return [float(time) for time in np.unique(selected.asked_ms)]


def _summarize_timing(everything: Judgements) -> TimingSummary:
    shown = everything.where(everything.phase != "practice")
    timed = shown.where(~np.isnan(shown.asked_ms))
    return TimingSummary(
        trials=len(timed),
        within_a_frame=float(is_within_frames(timed).mean()) if len(timed) else None,
        refresh_hz=sorted({round(float(hz)) for hz in shown.refresh_hz}),
        by_time=measure_timing(timed),
    )
