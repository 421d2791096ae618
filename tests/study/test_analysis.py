import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.inter_rater import fleiss_kappa
from statsmodels.stats.proportion import proportion_confint

from lapgan.study.analysis import (
    Resampling,
    d_prime,
    hype_error,
    krippendorff_alpha,
    measure_timing,
    sensitivity,
    share_judged_real,
)
from lapgan.study.design import REAL, Design
from lapgan.study.judgements import Judgements
from lapgan.study.simulate import Observers, ThresholdObservers, simulate_rows
from lapgan.study.thresholds import fit_psychometric, fit_threshold

FAKES = ("lapgan", "gan")


def judge(population, raters, seed=0, **design):
    rng = np.random.default_rng(seed)
    rows = simulate_rows(Design(**design), FAKES, population, raters, rng)
    judgements = Judgements.from_rows([row for row in rows if row["phase"] == "main"])
    return judgements, Resampling(judgements.rater.tolist(), 1000, rng)


def of(judgements, source):
    return judgements.where(judgements.source == source)


def cell(table):
    """Judgements from {rater: [said real, ...]}, all of one source."""
    rows = [
        {"rater": rater, "said_real": bool(said), "source": "gan", "phase": "main", "real": False,
         "simulated": True, "answered_at": "", "correct": not said, "staircase": None,
         "stimulus": f"image-{place}",
         "hidden": False, "resumed": False,
         "asked_ms": 100.0, "achieved_ms": 100.0, "refresh_hz": 60.0, "dropped_frames": 0,
         "response_ms": 500.0}
        for rater, answers in table.items() for place, said in enumerate(answers)
    ]  # fmt: skip
    return Judgements.from_rows(rows)


def resample(judgements, replicates=2000):
    return Resampling(judgements.rater.tolist(), replicates, np.random.default_rng(0))


@settings(max_examples=50, deadline=None)
@given(total=st.integers(1, 400), data=st.data())
def test_wilson_agrees_with_statsmodels(total, data):
    hits = data.draw(st.integers(0, total))
    judgements = cell({"a": [1] * hits + [0] * (total - hits)})
    interval = share_judged_real(judgements, resample(judgements, 10)).wilson
    assert interval == pytest.approx(proportion_confint(hits, total, method="wilson"), abs=1e-9)


def test_a_share_is_count_over_answers():
    judgements = cell({"a": [1, 0, 0], "b": [1, 1, 0, 1]})
    share = share_judged_real(judgements, resample(judgements))
    assert (share.judged_real, share.answers) == (4, 7)
    assert share.share == pytest.approx(4 / 7)


def test_the_bootstrap_resamples_raters_not_answers():
    # Two kinds of raters, each of one mind: only the draw of raters varies.
    judgements = cell({f"r{rater:02d}": [rater % 2] * 50 for rater in range(20)})
    share = share_judged_real(judgements, resample(judgements, 20_000))
    # Binomial(20, 1/2) / 20, with tails widened to t with 19 degrees of freedom.
    expected = 0.5 * np.sqrt(1 / 20) * 2.093 * np.sqrt(20 / 19)
    assert (share.bootstrap[1] - share.bootstrap[0]) / 2 == pytest.approx(expected, abs=0.03)
    assert share.wilson[1] - share.wilson[0] < 0.07


def test_where_all_agree_wilsons_interval_stands_in():
    judgements = cell({"a": [0] * 20, "b": [0] * 20})
    share = share_judged_real(judgements, resample(judgements))
    assert share.bootstrap == (0, 0)
    assert share.interval == share.wilson
    assert share.wilson[1] > 0.05


def test_one_rater_gives_no_raters_interval():
    judgements = cell({"a": [0, 1]})
    share = share_judged_real(judgements, resample(judgements))
    assert np.isnan(share.bootstrap).all()
    assert share.interval == share.wilson


def test_an_empty_cell_is_not_a_number():
    judgements = cell({"a": [0, 1], "b": [1]})
    none = judgements.where(judgements.source == "nothing")
    share = share_judged_real(none, resample(judgements))
    assert (share.answers, np.isnan(share.share)) == (0, True)


@pytest.mark.parametrize(("d", "c"), [(0.0, 0.0), (1.0, 0.0), (2.0, -0.5), (-0.5, 0.3)])
def test_d_prime_inverts_the_model(d, c):
    many = 10_000_000.0
    hits, alarms = norm.cdf(d / 2 - c) * many, norm.cdf(-d / 2 - c) * many
    estimates = d_prime(*map(np.array, (hits, many, alarms, many)))
    assert estimates == pytest.approx((d, c), abs=1e-4)


def test_d_prime_is_corrected_log_linearly():
    sensitive, bias = d_prime(np.array(10.0), np.array(10.0), np.array(0.0), np.array(10.0))
    assert sensitive == pytest.approx(2 * norm.ppf(10.5 / 11))
    assert bias == pytest.approx(0)
    assert np.isnan(d_prime(np.array(0.0), np.array(0.0), np.array(1.0), np.array(2.0))[0])


def test_known_sensitivity_and_bias_are_recovered():
    truth = Observers({"lapgan": 0.6, "gan": 2.2}, criterion=-0.4)
    judgements, resampling = judge(truth, 60, seed=4)
    for source, expected in truth.d_prime.items():
        d, c = sensitivity(judgements, source, resampling)
        assert d.low <= expected <= d.high
        # Evidence is N(0, 1) and N(-d', 1): midway between them lies -d'/2.
        assert c.low <= -0.4 + expected / 2 <= c.high
        assert d.high - d.low < 0.5


def test_raters_who_cannot_tell_have_error_one_half():
    judgements, resampling = judge(Observers({"lapgan": 0.0, "gan": 9.0}), 40, seed=1)
    blind = hype_error(judgements, "lapgan", resampling)
    # Four standard errors of about 1,470 answers of each kind.
    assert blind.value == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 1470 / 2))
    assert blind.low < blind.value < blind.high
    seeing = hype_error(judgements, "gan", resampling)
    reals = of(judgements, REAL).said_real
    fakes = of(judgements, "gan").said_real
    assert seeing.value == pytest.approx((fakes.mean() + 1 - reals.mean()) / 2)


def test_alpha_agrees_with_fleiss_kappa():
    # With m raters for each of N items: alpha = 1 - (1 - P) N m / ((1 - Pe) N m - ...), from kappa.
    rng = np.random.default_rng(0)
    said = rng.random((6, 40)) < rng.random(40)
    judgements = cell({f"r{rater}": row for rater, row in enumerate(said)})
    counts = np.stack([said.sum(0), 6 - said.sum(0)], axis=1)
    total = counts.sum()
    p = counts.sum(0) / total
    expected = 1 - (1 - fleiss_kappa(counts)) * (1 - p @ p) / ((1 - p @ p) * total / (total - 1))
    assert krippendorff_alpha(judgements) == pytest.approx(expected, abs=1e-9)


def test_alpha_of_perfect_and_of_no_krippendorff_alpha():
    assert krippendorff_alpha(cell({"a": [1, 0, 1], "b": [1, 0, 1]})) == pytest.approx(1)
    rng = np.random.default_rng(0)
    noise = cell({f"r{rater}": rng.random(500) < 0.5 for rater in range(4)})
    assert krippendorff_alpha(noise) == pytest.approx(0, abs=0.05)
    assert krippendorff_alpha(cell({"a": [1, 0]})) is None
    assert krippendorff_alpha(cell({"a": [1, 1], "b": [1, 1]})) is None


def test_psychometric_fit_of_exact_shares():
    times = np.array([50.0, 100, 200, 400, 800, 1600])
    share = 0.5 + 0.48 * norm.cdf(np.log10(times / 200) / 0.2)
    points = [(float(t), round(400 * p), 400) for t, p in zip(times, share, strict=True)]
    fit = fit_psychometric(points)
    assert fit.threshold_ms == pytest.approx(200, rel=0.05)
    assert fit.interval_ms[0] < 200 < fit.interval_ms[1]
    assert fit.inside
    np.testing.assert_allclose(fit.at(times), share, atol=0.02)


def test_without_times_there_is_no_threshold():
    judgements, resampling = judge(Observers({}), 2, mode="untimed")
    assert fit_threshold(judgements, "gan", resampling) is None


def test_timing_by_hand():
    judgements = cell({"a": [1, 0, 1, 0]})
    shown = np.array([100.0, 116.0, 100.0, 140.0])
    changed = Judgements(**{**vars(judgements), "achieved_ms": shown})
    (row,) = measure_timing(changed)
    assert (row.asked_ms, row.trials, row.within_a_frame) == (100, 4, 0.75)
    assert row.mean_error_ms == pytest.approx(14)


@pytest.mark.slow
def test_a_known_threshold_is_recovered_within_a_third():
    truth = ThresholdObservers({"gan": 120.0, "lapgan": 400.0})  # reals go by the first
    judgements, resampling = judge(truth, 40, trials=120)
    fit = fit_threshold(judgements, "gan", resampling)
    assert fit.threshold_ms == pytest.approx(120, rel=0.35)
    assert fit.interval_ms[0] < fit.threshold_ms < fit.interval_ms[1]


@pytest.mark.slow
def test_raters_who_differ_widen_the_thresholds_interval():
    def widening(between):
        truth = ThresholdObservers({"gan": 120.0, "lapgan": 400.0}, between_std=between)
        judgements, resampling = judge(truth, 30)
        fit = fit_threshold(judgements, "gan", resampling)
        own = fit_psychometric(fit.points)
        return np.log(np.divide(*fit.interval_ms)) / np.log(np.divide(*own.interval_ms))

    alike, different = widening(0.0), widening(0.5)
    assert 1 <= alike < 1.4
    assert different > 1.5 * alike


@pytest.mark.load
@pytest.mark.parametrize("between", [0.0, 0.2], ids=["alike", "different"])
def test_threshold_intervals_hold_the_truth_in_at_least_90_of_100_studies(between):
    # 0.2: the middle two thirds of raters have thresholds from 76 to 190 ms.
    truth = ThresholdObservers({"gan": 120.0, "lapgan": 400.0}, between_std=between)
    held = 0
    for seed in range(100):
        judgements, resampling = judge(truth, 15, seed=seed)
        low, high = fit_threshold(judgements, "gan", resampling).interval_ms
        held += low <= 120 <= high
    print(f"threshold: held in {held} of 100")
    assert held >= 90


@pytest.mark.load
def test_d_prime_intervals_hold_the_truth_in_at_least_90_of_100_studies():
    # Raters alike: pooling over different criteria would make d' smaller than each rater's own.
    truth = Observers({"lapgan": 0.8, "gan": 2.5}, criterion=-0.5)
    held = dict.fromkeys(FAKES, 0)
    for seed in range(100):
        judgements, resampling = judge(truth, 15, seed=seed)
        for source in FAKES:
            d, _ = sensitivity(judgements, source, resampling)
            held[source] += d.low <= truth.d_prime[source] <= d.high
    print("d':", held)
    assert min(held.values()) >= 90, held


@pytest.mark.load
def test_intervals_hold_the_truth_in_at_least_90_of_100_studies():
    truth = Observers({"lapgan": 0.8, "gan": 2.5}, half_ms=100, criterion=-0.5, criterion_std=0.4)
    held = {(source, kind): 0 for source in (REAL, *FAKES) for kind in ("all", "at 500 ms")}
    for seed in range(100):
        judgements, resampling = judge(truth, 15, seed=seed)
        for source, kind in held:
            mine = of(judgements, source)
            expected = np.mean([truth.share(source, time) for time in mine.asked_ms])
            if kind != "all":
                mine = mine.where(mine.asked_ms == 500)
                expected = truth.share(source, 500.0)
            low, high = share_judged_real(mine, resampling).bootstrap
            held[source, kind] += bool(low <= expected <= high)
    print("shares:", held)
    assert min(held.values()) >= 90, held


@pytest.mark.load
def test_wilson_intervals_hold_when_raters_are_alike():
    truth = Observers({"lapgan": 0.8, "gan": 2.5}, criterion=-0.5)
    held = 0
    for seed in range(100):
        judgements, resampling = judge(truth, 15, seed=seed)
        low, high = share_judged_real(of(judgements, "lapgan"), resampling).wilson
        held += low <= truth.share("lapgan", 500.0) <= high
    print(f"Wilson: held in {held} of 100")
    assert held >= 90
