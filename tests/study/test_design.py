from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapgan.errors import LapganError
from lapgan.study.design import CATCH, REAL, Design, Staircase, read_design
from lapgan.study.planning import plan_sitting, pool_sizes, real_is_left, staircase_ms

FAKES = ("lapgan", "cc-lapgan", "gan")


def make_pools(design, fakes=FAKES):
    return {
        phase: {source: [f"{phase}-{source}-{i}" for i in range(n)] for source, n in counts.items()}
        for phase, counts in pool_sizes(design, fakes).items()
    }


def plan(design, index, fakes=FAKES):
    return plan_sitting(design, fakes, make_pools(design, fakes), index)


def main_of(trials):
    return [trial for trial in trials if trial.phase == "main"]


def test_the_default_is_the_papers_design():
    design = Design()
    assert len(design.durations_ms) == 11
    assert (min(design.durations_ms), max(design.durations_ms)) == (50, 2000)
    assert {50, 100, 500, 2000} <= set(design.durations_ms)
    assert len(main_of(plan(design, 0))) == 110


def test_every_duration_comes_ten_times_and_every_source_a_quarter():
    for index in range(8):
        main = main_of(plan(Design(), index))
        assert set(Counter(trial.asked_ms for trial in main).values()) == {10}
        assert sorted(Counter(trial.source for trial in main).values()) == [27, 27, 28, 28]
        cells = Counter((trial.source, trial.asked_ms) for trial in main)
        assert len(cells) == 44
        assert set(cells.values()) <= {2, 3}


def test_sources_even_out_over_raters():
    counts = Counter(trial.source for index in range(4) for trial in main_of(plan(Design(), index)))
    assert set(counts.values()) == {110}


@settings(max_examples=60, deadline=None)
@given(
    trials=st.integers(1, 150),
    durations=st.lists(st.integers(10, 3000), min_size=1, max_size=12, unique=True),
    blocks=st.integers(1, 6),
    fakes=st.integers(1, 4),
    share=st.none() | st.floats(0.1, 0.9),
    catches=st.integers(0, 6),
    mode=st.sampled_from(["durations", "untimed", "staircase"]),
    index=st.integers(0, 40),
)
def test_any_design_is_balanced_and_shows_no_image_twice(
    trials, durations, blocks, fakes, share, catches, mode, index
):
    design = Design(
        trials=trials,
        durations_ms=tuple(map(float, durations)),
        blocks=min(blocks, trials),
        real_share=share,
        catch_trials=catches,
        images_per_source=150,
        mode=mode,
    )
    names = tuple(f"model-{number}" for number in range(fakes))
    sitting = plan(design, index, names)
    assert [trial.position for trial in sitting] == list(range(trials + catches + 8))
    assert len({trial.stimulus for trial in sitting}) == len(sitting)
    blocks_seen = [trial.block for trial in sitting]
    assert blocks_seen == sorted(blocks_seen)
    main = main_of(sitting)
    assert len(main) == trials
    if mode == "durations":
        by_time = Counter(trial.asked_ms for trial in main)
        counts = [by_time[time] for time in design.durations_ms]
        assert max(counts) - min(counts) <= 1
        for source in (REAL, *names):
            cell = Counter(trial.asked_ms for trial in main if trial.source == source)
            counts = [cell[time] for time in design.durations_ms]
            assert max(counts) - min(counts) <= 1
    else:
        assert all(trial.asked_ms is None for trial in main)
        reals = sum(trial.source == REAL for trial in main)
        assert abs(reals - trials / 2) <= 1


def test_the_order_comes_from_the_seed_and_the_rater_alone():
    assert plan(Design(seed=3), 5) == plan(Design(seed=3), 5)
    assert plan(Design(seed=3), 5) != plan(Design(seed=3), 6)
    assert plan(Design(seed=3), 5) != plan(Design(seed=4), 5)


def test_images_are_shown_equally_often_over_raters():
    design = Design(images_per_source=28, trials=112)
    seen = Counter(trial.stimulus for index in range(12) for trial in main_of(plan(design, index)))
    assert set(seen.values()) == {12}
    assert len(seen) == 4 * 28


def test_catch_trials_are_spread_and_shown_longest():
    sitting = plan(Design(), 0)
    catches = [trial for trial in sitting if trial.phase == "catch"]
    assert {trial.block for trial in catches} == {1, 2, 3, 4}
    assert {(trial.source, trial.asked_ms) for trial in catches} == {(CATCH, 2000.0)}


def test_practice_comes_first_with_as_many_fakes_and_grows_quicker():
    practice = [trial for trial in plan(Design(), 0) if trial.block == 0]
    assert [trial.phase for trial in practice] == ["practice"] * 8
    assert sum(trial.source == REAL for trial in practice) == 4
    times = [trial.asked_ms for trial in practice]
    assert times == sorted(times, reverse=True)
    assert (times[0], times[-1]) == (2000, 50)


def test_each_staircase_has_half_real_images():
    main = main_of(plan(Design(mode="staircase", trials=120), 1))
    for fake in FAKES:
        mine = [trial.source for trial in main if trial.staircase == fake]
        assert mine.count(fake) == mine.count(REAL) == 20


def test_sides_alternate_unless_fixed():
    assert [real_is_left(Design(), index) for index in range(4)] == [True, False, True, False]
    assert not real_is_left(Design(sides="real-right"), 0)


def test_staircase_by_hand():
    rule = Staircase(start_ms=400, ratio=2, min_ms=50, max_ms=1000)
    assert staircase_ms(rule, []) == 400
    assert staircase_ms(rule, [True, True]) == 400
    assert staircase_ms(rule, [True] * 3) == 200
    assert staircase_ms(rule, [True, True, False, True, True]) == 800
    assert staircase_ms(rule, [True] * 3 + [False]) == 400
    assert staircase_ms(rule, [False] * 5) == 1000
    assert staircase_ms(rule, [True] * 30) == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails = 3", "trails: unknown key; did you mean 'trials'?"),
        ("trials = 0", "trials: Input should be greater"),
        ("[staircase]\nratio = 1.0", "staircase.ratio"),
        ("durations_ms = [50, 50]", "found one twice"),
        ("trials = 2\nblocks = 3", "at most as many blocks"),
        ("trials = ", "not TOML"),
    ],
)
def test_a_wrong_recipe_names_file_and_key(tmp_path, text, message):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(LapganError, match=r"study\.toml") as error:
        read_design(path)
    assert message in str(error.value)


def test_options_replace_keys_of_the_recipe(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("seed = 1\ntrials = 40")
    assert read_design(path, {"seed": 9}) == Design(seed=9, trials=40)
    with pytest.raises(LapganError, match="cannot be read"):
        read_design(tmp_path / "missing.toml")


def test_too_few_images_is_said_before_drawing():
    with pytest.raises(LapganError, match="sees 28 images"):
        pool_sizes(Design(images_per_source=20), FAKES)
