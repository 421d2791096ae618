import base64
import io
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lapgan.errors import LapganError
from lapgan.study.report import render_html, write_report
from lapgan.study.results import compute_results
from lapgan.study.simulate import Observers, ThresholdObservers, simulate_rows

TRUTH = Observers({"lapgan": 0.5, "gan": 2.0}, criterion=-0.3)


def rows_of(study, population=TRUTH, raters=6):
    rng = np.random.default_rng(0)
    rows = simulate_rows(study.design, study.manifest.fakes, population, raters, rng)
    return [{**row, "answered_at": "2026-01-02T03:04:05.678+00:00"} for row in rows]


@pytest.fixture
def timed(make_study):
    return make_study(trials=30, durations_ms=[50, 100, 2000])


def test_results_are_counts_of_the_rows(timed):
    rows = rows_of(timed)
    results = compute_results(timed.manifest, rows, 200)
    main = [row for row in rows if row["phase"] == "main"]
    for cell in results.shares:
        mine = [row for row in main if row["source"] == cell.source]
        if cell.asked_ms:
            mine = [row for row in mine if row["asked_ms"] == cell.asked_ms]
        assert cell.share.answers == len(mine)
        assert cell.share.judged_real == sum(row["said_real"] for row in mine)
    assert len(results.shares) == 3 * 4
    assert results.trials.analysed == len(main)
    assert results.timing.within_a_frame == 1
    assert results.raters.simulated == 6


def test_results_do_not_depend_on_chance(timed):
    rows = rows_of(timed)
    assert compute_results(timed.manifest, rows, 50) == compute_results(timed.manifest, rows, 50)


def test_the_report_is_one_page_and_one_json(timed, tmp_path):
    paths = write_report(timed.manifest, rows_of(timed), tmp_path / "out", 100)
    assert [path.name for path in paths] == ["report.json", "report.html"]
    loaded = json.loads(paths[0].read_text(), parse_constant=lambda name: pytest.fail(name))
    assert loaded["study"]["design"]["trials"] == 30
    page = paths[1].read_text()
    for needle in ("<script", "<link", "src=", "@import"):
        assert needle not in page
    _check_well_formed(page)
    assert page.count("<svg") == 3
    assert "simulated: programs" in page
    assert "published, not measured here" not in page


def test_the_page_shows_which_images_pass_as_real(timed, tmp_path):
    pools = timed.pools()["main"]
    rows = [row for row in rows_of(timed) if row["phase"] == "main"]
    for row in rows:
        place = int(row["stimulus"].rpartition("-")[2])
        row["stimulus"] = pools[row["source"]][place]
    name, other = pools["gan"][3:5]
    answers = [(name, True)] * 50 + [(other, False)] * 50  # beyond what chance gives any other
    told = [
        {**rows[-1], "source": "gan", "stimulus": image, "said_real": said, "real": False}
        for image, said in answers
    ]
    stimuli = timed.folder / "stimuli"
    page = write_report(timed.manifest, [*rows, *told], tmp_path, 20, stimuli=stimuli)[1]
    text = page.read_text()
    _check_well_formed(text)
    part = text.split("<h3>gan</h3>")[1].split("<h3>")[0]
    most, least = part.split('<div class="pictures">')[1:3]
    for row, image in ((most, name), (least, other)):
        first = base64.b64decode(row.split("base64,")[1].split('"')[0])
        with Image.open(io.BytesIO(first)) as shown, Image.open(stimuli / f"{image}.png") as own:
            assert np.array_equal(np.asarray(shown), np.asarray(own))


def test_a_p_value_is_never_nought(timed):
    rows = [row for row in rows_of(timed, raters=12) if row["phase"] == "main"]
    for place, row in enumerate(rows):
        row["said_real"] = (row["source"] != "gan") ^ (place % 7 == 0)
    assert "<td>&lt; 0.001</td>" in render_html(compute_results(timed.manifest, rows, 50))


def test_reports_of_people_have_no_banner(timed, tmp_path):
    rows = [{**row, "simulated": False} for row in rows_of(timed)]
    paths = write_report(timed.manifest, rows, tmp_path, 50)
    assert "simulated: programs" not in paths[1].read_text()


def test_names_are_escaped(make_study):
    study = make_study(title="<script>alert(1)</script>")
    page = render_html(compute_results(study.manifest, rows_of(study), 50))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_an_untimed_study_reports_shares_and_errors(make_study, tmp_path):
    study = make_study(trials=20, mode="untimed")
    page = write_report(study.manifest, rows_of(study), tmp_path, 50)[1].read_text()
    _check_well_formed(page)
    assert "Threshold time" not in page
    assert page.count("<svg") == 2


def test_a_staircase_study_reports_thresholds(make_study, tmp_path):
    study = make_study(fakes=("gan",), trials=32, mode="staircase", practice_trials=0)
    truth = ThresholdObservers({"gan": 150.0})
    page = write_report(study.manifest, rows_of(study, truth), tmp_path, 50)[1].read_text()
    assert "Threshold time" in page
    _check_well_formed(page)


def test_no_answers_no_report(timed, tmp_path):
    with pytest.raises(LapganError, match="no answers yet"):
        write_report(timed.manifest, [], tmp_path)


def test_a_few_answers_are_enough_for_a_report(timed, tmp_path):
    page = write_report(timed.manifest, rows_of(timed, raters=1)[:5], tmp_path, 50)[1].read_text()
    assert "n/a" in page


def _check_well_formed(page):
    for part in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
    HTMLParser().feed(page)


def test_published_figures_stand_beside_cifar10_only(timed):
    cifar10 = timed.manifest.model_copy(update={"sources": {"real": "cifar10/test.parquet"}})
    rows = [row for row in rows_of(timed) if row["source"] == "real"]
    assert "published, not measured here" in render_html(compute_results(cifar10, rows, 20))
    other = timed.manifest.model_copy(update={"sources": {"real": "photos/test.parquet"}})
    assert "measured here" not in render_html(compute_results(other, rows, 20))


def test_simulated_raters_are_never_pooled_with_people(timed):
    rows = rows_of(timed)
    people = [{**row, "simulated": row["rater"] > "S-1", "answered_at": ""} for row in rows]
    progress = [
        {"code": f"S-{place}", "simulated": place > 1, "finished_at": "x" if place else None}
        for place in range(6)
    ]
    mixed = compute_results(timed.manifest, people, 50, progress)
    alone = compute_results(timed.manifest, [row for row in people if not row["simulated"]], 50)
    assert mixed.shares == alone.shares
    assert (mixed.raters.simulated, mixed.raters.simulated_left_out) == (0, 4)
    assert (mixed.raters.joined, mixed.raters.finished) == (2, 1)
    assert "4 simulated raters are left out" in render_html(mixed)


def test_raters_who_only_practiced_are_counted(timed):
    rows = [row for row in rows_of(timed) if row["rater"] != "S-0" or row["phase"] == "practice"]
    results = compute_results(timed.manifest, rows, 50)
    assert (results.raters.joined_and_answered, results.raters.practice_only) == (6, 1)
    assert results.raters.analysed == 5


def test_models_are_compared_by_the_same_raters(timed):
    results = compute_results(timed.manifest, rows_of(timed, raters=12), 200)
    (cell,) = results.differences
    shares = {c.source: c.share.share for c in results.shares if c.asked_ms is None}
    assert (cell.one, cell.other) == ("lapgan", "gan")
    assert cell.difference.value == pytest.approx(shares["lapgan"] - shares["gan"])
    assert cell.difference.low > 0
    assert cell.p_value < 0.05


def test_a_name_with_dollar_signs_of_before_is_no_mathematics(make_study, tmp_path):
    study = make_study(fakes=("a$\\frac$",), mode="untimed")
    page = write_report(study.manifest, rows_of(study), tmp_path, 20)[1].read_text()
    assert "a$\\frac$" in page
