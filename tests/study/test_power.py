import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from lapgan.errors import LapganError
from lapgan.study.power import (
    Goal,
    Plan,
    intra_rater_correlation,
    plan_raters,
    simulate_half_width,
)

MANY = 1_000_000


def test_raters_who_are_alike_are_not_correlated():
    assert intra_rater_correlation(0.4, 0.0) == pytest.approx(0, abs=1e-12)


def test_correlation_agrees_with_integration():
    center = norm.ppf(0.3) * np.sqrt(1 + 0.5**2)
    square = quad(lambda z: norm.cdf(center + 0.5 * z) ** 2 * norm.pdf(z), -9, 9)[0]
    assert intra_rater_correlation(0.3, 0.5) == pytest.approx((square - 0.09) / 0.21, abs=1e-9)


def test_where_raters_are_alike_only_the_number_of_answers_counts():
    # t quantiles aside: compare at many raters.
    assert Goal(0.5, 0.1, 0.0).width(4000, 1, MANY) == pytest.approx(
        Goal(0.5, 0.1, 0.0).width(1000, 4, MANY), rel=1e-3
    )
    assert Goal(0.5, 0.1, 0.0).width(4000, 1, MANY) == pytest.approx(
        1.96 * 0.5 / np.sqrt(4000), rel=1e-3
    )


def test_the_plan_is_the_smallest_that_suffices():
    for answers in (1, 5, 28):
        goal = Goal(0.4, 0.05, 0.3)
        plan = plan_raters(goal, answers)
        assert goal.width(plan.raters, plan.answers_per_rater, MANY) <= 0.05
        assert goal.width(plan.raters - 1, plan.answers_per_rater, MANY) > 0.05
        assert plan.answers == plan.raters * plan.answers_per_rater


def test_the_formula_agrees_with_simulated_studies():
    rng = np.random.default_rng(0)
    goal, plan = Goal(0.4, 0.1, 0.3), Plan(answers_per_rater=20, raters=40, half_width=0.1)
    width, coverage = simulate_half_width(goal, plan, rng, studies=40)
    assert width == pytest.approx(goal.width(40, 20, MANY), rel=0.08)
    assert coverage >= 0.85


def test_images_that_differ_set_a_limit_that_no_number_of_raters_passes():
    goal, plan = Goal(0.4, 0.1, 0.3, 1.0), Plan(answers_per_rater=20, raters=60, half_width=0.1)
    width, coverage = simulate_half_width(goal, plan, np.random.default_rng(0), 40, images=100)
    assert width == pytest.approx(goal.width(60, 20, 100), rel=0.08)
    assert coverage >= 0.85
    # Latent correlation 1 / (1 + 1) of answers to one image; the raters' own goes with 1 / R.
    limit = 1.96 * np.sqrt(0.24 * intra_rater_correlation(0.4, 1 / np.sqrt(1.09)) / 100)
    assert goal.width(90_000, 20, 100) == pytest.approx(limit, rel=0.01)
    with pytest.raises(LapganError, match="raise images_per_source"):
        plan_raters(Goal(0.4, 0.05, 0.3, 1.0), 20, 100)


@pytest.mark.parametrize(("share", "width"), [(0, 0.1), (40, 0.1), (0.4, 5), (0.4, 0)])
def test_percent_are_refused(share, width):
    with pytest.raises(LapganError, match="not percent"):
        Goal(share, width, 0.3)


def test_more_raters_than_there_are_is_said():
    with pytest.raises(LapganError, match="raters are needed"):
        plan_raters(Goal(0.5, 0.0005, 0.3), 1)
