import numpy as np
import pytest

from lapgan.study.design import Design, Exclusion
from lapgan.study.judgements import (
    Judgements,
    exclusion_reasons,
    is_within_frames,
    select_trials,
)
from lapgan.study.simulate import Observers, simulate_rows

FAKES = ("lapgan", "gan")


def rows_of(raters=2, **changes):
    rows = simulate_rows(Design(), FAKES, Observers({"gan": 3.0}), raters, np.random.default_rng(0))
    return [{**row, **changes} for row in rows]


def change(rows, rater, **changes):
    return [{**row, **changes} if row["rater"] == rater else row for row in rows]


def test_ordinary_raters_stay():
    assert exclusion_reasons(Judgements.from_rows(rows_of(10)), Exclusion()) == {}


@pytest.mark.parametrize("said_real", [True, False])
def test_one_key_raters_go(said_real):
    rows = change(rows_of(), "S-1", said_real=said_real)
    reasons = exclusion_reasons(Judgements.from_rows(rows), Exclusion())
    assert list(reasons) == ["S-1"]
    assert reasons["S-1"][0] == "one answer in 100% of trials"


def test_too_fast_raters_go():
    rows = change(rows_of(), "S-0", response_ms=150.0)
    reasons = exclusion_reasons(Judgements.from_rows(rows), Exclusion())
    assert reasons == {"S-0": ["100% of answers within 200 ms of the onset"]}


def test_raters_who_fail_catch_trials_go_from_the_second_on():
    def failing(count):
        rows, failed = [], 0
        for row in rows_of(1):
            fails = row["phase"] == "catch" and failed < count
            failed += fails
            said = fails if row["phase"] == "catch" else row["said_real"]
            rows.append({**row, "said_real": said})
        return Judgements.from_rows(rows)

    assert exclusion_reasons(failing(1), Exclusion()) == {}
    assert exclusion_reasons(failing(2), Exclusion()) == {"S-0": ["2 catch images called real"]}


def test_unfinished_raters_stay_unless_the_rules_say_otherwise():
    rows = rows_of(1)[:30]
    assert exclusion_reasons(Judgements.from_rows(rows), Exclusion()) == {}
    reasons = exclusion_reasons(Judgements.from_rows(rows), Exclusion(min_answers=110))
    assert "fewer than 110" in reasons["S-0"][0]


def test_only_good_main_trials_are_kept_and_losses_are_counted():
    rows = rows_of(2)
    main = [place for place, row in enumerate(rows) if row["phase"] == "main"]
    rows[main[0]]["hidden"] = True
    rows[main[1]]["resumed"] = True
    rows[main[2]]["achieved_ms"] = rows[main[2]]["asked_ms"] + 40
    rows[main[3]] |= {"hidden": True, "resumed": True}
    selected, left_out = select_trials(Judgements.from_rows(rows), Exclusion(), {"S-1": []})
    assert len(selected) == 106
    assert set(selected.phase) == {"main"}
    assert left_out == {
        "rater left out": 110,
        "page hidden": 2,
        "begun again after a reload": 1,
        "shown too long or too short": 1,
    }


def test_a_frame_is_that_of_the_raters_screen():
    rows = rows_of(1)[:4]
    for row, error, hertz in zip(
        rows, (16.0, 18.0, 9.0, 9.5), (60.0, 60.0, 120.0, 120.0), strict=True
    ):
        row |= {"asked_ms": 100.0, "achieved_ms": 100.0 - error, "refresh_hz": hertz}
    assert is_within_frames(Judgements.from_rows(rows)).tolist() == [True, False, True, False]


def test_untimed_trials_are_never_ill_timed():
    rows = rows_of(1, asked_ms=None)
    assert is_within_frames(Judgements.from_rows(rows)).all()
