import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from lapgan.study.answers import COLUMNS
from lapgan.study.design import CATCH, REAL, Design
from lapgan.study.simulate import Observers, ThresholdObservers, simulate_into, simulate_rows
from lapgan.study.store import Store


def test_the_population_share_is_the_mean_over_raters():
    population = Observers({"gan": 1.3}, half_ms=150, criterion=-0.3, criterion_std=0.6, lapse=0.04)

    def rater(criterion):
        d = 1.3 * 200 / (200 + 150)
        return (0.96 * norm.cdf(-d - criterion) + 0.02) * norm.pdf(criterion, -0.3, 0.6)

    assert population.share("gan", 200.0) == pytest.approx(quad(rater, -8, 8)[0], abs=1e-9)


def test_drawn_raters_answer_with_the_population_share():
    population = Observers({"gan": 1.0}, criterion_std=0.5)
    rng = np.random.default_rng(0)
    drawn = np.mean([population.draw(rng)("gan", None) for _ in range(4000)])
    assert drawn == pytest.approx(population.share("gan", None), abs=0.01)


def test_sensitivity_grows_with_time_to_its_limit():
    population = Observers({"gan": 2.0}, half_ms=100)
    shares = [population.share("gan", time) for time in (50.0, 100.0, 1000.0, None)]
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == pytest.approx(norm.cdf(-1.0))
    assert shares[3] == pytest.approx(norm.cdf(-2.0))
    assert population.share(REAL, 50.0) == 0.5
    assert population.share(CATCH, 2000.0) < 0.001


def test_threshold_observers_are_half_way_at_their_threshold():
    rater = ThresholdObservers({"gan": 300.0}, lapse=0.02).draw(np.random.default_rng(0))
    assert rater(REAL, 300.0) == pytest.approx(0.5 + 0.48 / 2)
    assert rater("gan", 300.0) == pytest.approx(0.5 - 0.48 / 2)
    assert rater(REAL, None) == pytest.approx(0.98)


def test_simulated_rows_are_those_of_the_store(make_study):
    study = make_study()
    store = Store(study)
    simulate_into(store, Observers({"gan": 2.0}), 2, np.random.default_rng(0))
    stored = store.rows()
    rng = np.random.default_rng(0)
    population, manifest = Observers({"gan": 2.0}), study.manifest
    simulated = simulate_rows(study.design, manifest.fakes, population, 2, rng, manifest.salt)
    assert all(row["simulated"] for row in stored)
    assert set(simulated[0]) == set(COLUMNS)
    keys = set(COLUMNS) - {"rater", "trial", "stimulus", "answered_at"}
    assert [{key: row[key] for key in keys} for row in stored] == [
        {key: row[key] for key in keys} for row in simulated
    ]
    store.close()


def test_staircases_close_in_on_the_threshold():
    truth = ThresholdObservers({"gan": 150.0}, std=0.15, lapse=0.0)
    design = Design(mode="staircase", trials=110)
    rows = simulate_rows(design, ("gan",), truth, 20, np.random.default_rng(1))
    late = [
        np.log10(row["asked_ms"]) for row in rows if row["block"] >= 3 and row["phase"] == "main"
    ]
    # 79.4% correct lies where Phi = 0.588: a little above the threshold.
    expected = np.log10(150) + 0.15 * norm.ppf(2 * 0.794 - 1)
    assert np.mean(late) == pytest.approx(expected, abs=0.06)
