"""The threshold of staircases, whose times follow each rater's own answers."""

import numpy as np
import pytest
from scipy.stats import norm

from lapgan.study.analysis import Resampling
from lapgan.study.design import Design
from lapgan.study.judgements import Judgements
from lapgan.study.simulate import ThresholdObservers, simulate_rows
from lapgan.study.staircases import fit_raters
from lapgan.study.thresholds import fit_psychometric, fit_threshold


def judge(raters, seed, between, threshold=200.0):
    """Sittings of one staircase of 60 trials."""
    design = Design(mode="staircase", trials=60)
    truth = ThresholdObservers({"gan": threshold}, between_std=between)
    rng = np.random.default_rng(seed)
    rows = simulate_rows(design, ["gan"], truth, raters, rng)
    return Judgements.from_rows([row for row in rows if row["phase"] == "main"])


def fixed(thresholds, count=4000, lapse=0.02):
    """So many answers per rater and time that each rater's own fit is exact."""
    times = np.array([50.0, 100, 200, 400, 800, 1600])
    rng = np.random.default_rng(0)
    columns = []
    for rater, threshold in enumerate(thresholds):
        share = 0.5 + (0.5 - lapse) * norm.cdf(np.log10(times / threshold) / 0.25)
        correct = np.concatenate([np.arange(count) < round(count * p) for p in share])
        rng.shuffle(correct.reshape(len(times), count), axis=1)
        columns.append((np.full(len(correct), f"r{rater}"), times.repeat(count), correct))
    rater, asked_ms, correct = map(np.concatenate, zip(*columns, strict=True))
    stimulus = np.arange(len(rater)).astype(np.str_)
    return Judgements.from_columns(
        rater=rater, asked_ms=asked_ms, correct=correct, stimulus=stimulus
    )


@pytest.mark.parametrize("lapse", [0.02, 0.1])
def test_with_many_answers_each_rater_has_the_threshold_of_an_own_fit(lapse):
    thresholds = (110.0, 180, 240, 330)
    fit = fit_raters(fixed(thresholds, lapse=lapse))
    assert fit.lapse == pytest.approx(lapse, abs=0.01)
    for rater, threshold in enumerate(thresholds):
        assert 10 ** fit.by_rater[f"r{rater}"] == pytest.approx(threshold, rel=0.03)
    assert 10**fit.log_threshold == pytest.approx(np.exp(np.mean(np.log(thresholds))), rel=0.03)
    assert fit.std == pytest.approx(0.25, abs=0.03)


def test_the_interval_is_that_of_a_mean_of_raters():
    # With exact thresholds only the draw of raters is left: Student's interval of their mean.
    logs = np.log10(200) + np.random.default_rng(1).normal(0, 0.2, 12)
    fit = fit_raters(fixed(10**logs, count=800))
    expected = 2 * 2.201 * logs.std(ddof=1) / np.sqrt(12)
    assert fit.interval[1] - fit.interval[0] == pytest.approx(expected, rel=0.12)
    assert fit.between_std == pytest.approx(logs.std(ddof=1), rel=0.25)


def test_images_that_differ_widen_the_interval():
    judgements = judge(20, 0, 0.1)
    own = judgements.correct & (np.arange(len(judgements)) % 2 == 0)
    # Every answer an image of its own, or all right answers to the same few images.
    apart = np.arange(len(judgements)).astype(np.str_)
    shared = np.where(judgements.correct, np.where(own, "a", "b"), apart)
    changed = Judgements(**{**vars(judgements), "stimulus": shared})
    single = Judgements(**{**vars(judgements), "stimulus": apart})
    wide, narrow = (np.ptp(fit_raters(part).interval) for part in (changed, single))
    assert wide > 1.2 * narrow


def test_a_staircase_of_raters_who_differ_is_not_biased():
    # Pooled over raters, as it once was, the threshold comes out at about 150 ms.
    judgements = judge(60, 3, 0.3)
    resampling = Resampling(judgements.rater.tolist(), 200, np.random.default_rng(0))
    fit = fit_threshold(judgements, "gan", resampling)
    assert fit.threshold_ms == pytest.approx(200, rel=0.16)
    assert fit.interval_ms[0] < 200 < fit.interval_ms[1]
    assert len(fit.raters) == 60
    pooled = fit_psychometric(fit.points)
    assert pooled.interval_ms[1] < 200


def test_one_rater_has_a_threshold_too():
    judgements = judge(1, 2, 0.0)
    resampling = Resampling(judgements.rater.tolist(), 50, np.random.default_rng(0))
    fit = fit_threshold(judgements, "gan", resampling)
    assert fit.interval_ms[0] < 200 < fit.interval_ms[1]
    assert fit.raters == {}
