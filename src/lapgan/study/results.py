"""All results of a study as one JSON value: what the report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lapgan.study.analysis import (
    Resampling,
    agreement,
    hype_error,
    sensitivity,
    share_judged_real,
    timing,
)
from lapgan.study.design import REAL
from lapgan.study.judgements import Judgements, excluded_raters, kept_trials, within_a_frame
from lapgan.study.published import DGM_EVAL_CIFAR10_ERROR, PAPER_AT_2000_MS
from lapgan.study.stimuli import Manifest
from lapgan.study.thresholds import threshold_time

__all__ = ["compute_results"]


def compute_results(
    manifest: Manifest, rows: Sequence[Mapping[str, Any]], replicates: int = 2000
) -> dict[str, Any]:
    """Analyses every answer of a study by the rules that its manifest froze.

    Args:
        manifest: of the study.
        rows: from `Store.rows`.
        replicates: of the raters' bootstrap, seeded by the design's seed.
    """
    everything = Judgements.from_rows(rows)
    rules = manifest.design.exclusion
    excluded = excluded_raters(everything, rules)
    kept, dropped = kept_trials(everything, rules, excluded)
    rng = np.random.default_rng([manifest.design.seed, 4])
    resampling = Resampling(kept.rater.tolist(), replicates, rng)
    return {
        "study": _describe(manifest, rows),
        "raters": {
            "joined_and_answered": len(set(everything.rater.tolist())),
            "analysed": len(resampling.raters),
            "left_out": excluded,
            "simulated": sum(_simulated(rows).values()),
        },
        "trials": {"analysed": len(kept), "left_out": dropped},
        "shares": _shares(manifest, kept, resampling),
        "sensitivity": _sensitivities(manifest, kept, resampling),
        "error_rates": {
            fake: asdict(hype_error(kept, fake, resampling)) for fake in manifest.fakes
        },
        "thresholds": {fake: _threshold(kept, fake, resampling) for fake in manifest.fakes},
        "agreement": {
            source: agreement(kept.where(kept.source == source)) for source in manifest.sources
        },
        "timing": _timing(everything),
        "published": {
            "paper_at_2000_ms": dict(PAPER_AT_2000_MS),
            "dgm_eval_cifar10_error": dict(DGM_EVAL_CIFAR10_ERROR),
        },
    }


def _describe(manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = sorted(row["answered_at"] for row in rows if row.get("answered_at"))
    return {
        **manifest.model_dump(mode="json", exclude={"stimuli"}),
        "answers": len(rows),
        "first_answer": times[0] if times else None,
        "last_answer": times[-1] if times else None,
    }


def _simulated(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    return {row["rater"]: bool(row["simulated"]) for row in rows}


def _times(kept: Judgements, manifest: Manifest) -> list[float]:
    if manifest.design.mode != "durations":
        return []
    return [float(time) for time in np.unique(kept.asked_ms)]


def _shares(manifest: Manifest, kept: Judgements, resampling: Resampling) -> list[dict[str, Any]]:
    cells = []
    for source in manifest.sources:
        mine = kept.where(kept.source == source)
        parts: list[tuple[float | None, Judgements]] = [(None, mine)]
        parts += [(time, mine.where(mine.asked_ms == time)) for time in _times(kept, manifest)]
        for time, part in parts:
            share = share_judged_real(part, resampling)
            named = {"source": source, "asked_ms": time, "interval": share.interval}
            cells.append({**named, **asdict(share)})
    return cells


def _sensitivities(
    manifest: Manifest, kept: Judgements, resampling: Resampling
) -> list[dict[str, Any]]:
    cells = []
    for fake in manifest.fakes:
        mine = kept.where((kept.source == fake) | (kept.source == REAL))
        parts: list[tuple[float | None, Judgements]] = [(None, mine)]
        parts += [(time, mine.where(mine.asked_ms == time)) for time in _times(kept, manifest)]
        for time, part in parts:
            d_prime, bias = sensitivity(part, fake, resampling)
            cells.append(
                {"source": fake, "asked_ms": time, "d_prime": asdict(d_prime), "bias": asdict(bias)}
            )
    return cells


def _threshold(kept: Judgements, fake: str, resampling: Resampling) -> dict[str, Any] | None:
    fit = threshold_time(kept, fake, resampling)
    return None if fit is None else asdict(fit)


def _timing(everything: Judgements) -> dict[str, Any]:
    shown = everything.where(everything.phase != "practice")
    timed = shown.where(~np.isnan(shown.asked_ms))
    return {
        "trials": len(timed),
        "within_a_frame": float(within_a_frame(timed).mean()) if len(timed) else None,
        "refresh_hz": sorted({round(float(hz)) for hz in shown.refresh_hz}),
        "by_time": [asdict(row) for row in timing(timed)],
    }
