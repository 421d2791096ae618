"""The page on a run: what it gives out, and what it does not."""

import json
from pathlib import Path

import httpx2 as httpx
import pytest
from watching import add_record, make_run, watching

from lapgan.errors import LapganError
from lapgan.recipe import Recipe
from lapgan.watch import make_server
from lapgan.watch.history import thin_records


def test_the_page_follows_a_run_that_grows(tiny: Recipe, tmp_path: Path):
    folder = make_run(tmp_path / "run", tiny)
    with watching(folder.path) as address, httpx.Client(base_url=address) as client:
        run = client.get("/run.json").json()
        assert (run["name"], run["recipe"], run["state"]) == ("run", "tiny", "interrupted")
        fine, coarse = run["parts"]
        assert (fine["name"], fine["state"], fine["curves"]) == ("12", "waiting", {})
        assert (coarse["name"], coarse["fraction"]) == ("6x8", 0.5)
        assert coarse["curves"]["images_seen"] == [1000 * step for step in range(1, 11)]
        assert coarse["curves"]["loss_d"][-1] == pytest.approx(0.6)
        assert coarse["sheets"] == ["0000005k.png", "0000010k.png"]
        sheet = client.get("/sheets/6x8/0000010k.png")
        assert sheet.content == folder.part("6x8").sheet(10_000).read_bytes()
        assert sheet.headers["Content-Type"] == "image/png"

        add_record(folder.part("6x8"), 20_000)
        # A line that is being written is left out until it is whole.
        with folder.part("6x8").log.open("a") as log:
            log.write('{"images_seen": 210')
        coarse = client.get("/run.json").json()["parts"][1]
        assert (coarse["state"], coarse["curves"]["images_seen"][-1]) == ("finished", 20_000)


def test_nothing_but_the_page_and_the_run_is_given_out(tiny: Recipe, tmp_path: Path):
    folder = make_run(tmp_path / "run", tiny)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with watching(folder.path) as address, httpx.Client(base_url=address) as client:
        for path in (
            *("/log.jsonl", "/level-6x8/log.jsonl", "/sheets/6x8/log.jsonl", "/sheets/6x8/"),
            *("/sheets/6x8/..%2Flog.jsonl", "/sheets/..%2Flevel-6x8/log.jsonl", "/server.py"),
            *("/sheets/6x8/%2e%2e/%2e%2e/run.json", "/static/../server.py", "/sheets/13/a.png"),
        ):
            assert client.get(path).status_code == 404, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert client.request(method, "/run.json").status_code == 501
        head = client.head("/run.json")
        assert (head.status_code, head.content) == (200, b"")
        page = client.get("/")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "http" not in page.text  # nothing of another server
        assert client.get("/watch.js").status_code == client.get("/watch.css").status_code == 200
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_page_of_another_name_is_refused(tiny: Recipe, tmp_path: Path):
    # As by a site whose name was made to lead to this machine.
    folder = make_run(tmp_path / "run", tiny)
    with watching(folder.path) as address, httpx.Client(base_url=address) as client:
        for host, status in (("evil.example", 403), ("localhost:1", 200), ("[::1]", 200)):
            answer = client.get("/run.json", headers={"Host": host})
            assert answer.status_code == status
    with watching(folder.path, host="0.0.0.0") as address:
        answer = httpx.get(f"{address}/run.json", headers={"Host": "my-machine"})
        assert answer.status_code == 200


def test_a_run_that_is_removed_meanwhile_is_told(tiny: Recipe, tmp_path: Path):
    folder = make_run(tmp_path / "run", tiny)
    with watching(folder.path) as address:
        folder.identity.unlink()
        answer = httpx.get(f"{address}/run.json")
        assert answer.status_code == 503
        assert "no run folder" in answer.text


def test_an_address_that_is_taken_is_named(tiny: Recipe, tmp_path: Path):
    run = make_run(tmp_path / "run", tiny).path
    with make_server(run) as server, pytest.raises(LapganError, match="cannot listen there"):
        make_server(run, port=server.server_address[1])
    with pytest.raises(LapganError, match="no run folder"):
        make_server(tmp_path)


def test_a_long_log_is_thinned_to_means():
    records = [{"images_seen": 8 * (i + 1), "loss_d": float(i)} for i in range(10)]
    records[9]["std_ratio"] = 2.0  # a figure of later versions
    assert thin_records(records, points=4) == {
        "images_seen": [24, 48, 72, 80],
        "loss_d": [1.0, 4.0, 7.0, 9.0],
        "std_ratio": [None, None, None, 2.0],
    }
    assert thin_records(records, points=10)["loss_d"] == [float(i) for i in range(10)]
    assert thin_records([]) == {}
    for count in (299, 300, 301, 5000):
        [column] = thin_records([{"loss_d": 1.0}] * count).values()
        assert len(column) <= 300
        assert column == [1.0] * len(column)


def test_infinite_figures_are_null_in_json(tiny: Recipe, tmp_path: Path):
    folder = make_run(tmp_path / "run", tiny)
    with folder.part("6x8").log.open("a") as log:
        log.write('{"images_seen": 30000, "seconds": 9, "loss_d": NaN}\n')
    with watching(folder.path) as address:
        text = httpx.get(f"{address}/run.json").text
    assert json.loads(text, parse_constant=pytest.fail)["parts"][1]["curves"]["loss_d"][-1] is None
