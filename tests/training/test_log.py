import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from records import FINE
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lapgan.training.log import (
    Meter,
    append_record,
    read_records,
    rewind_records,
)


def test_a_log_is_read_back_up_to_an_incomplete_line(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    append_record(log, FINE)
    append_record(log, replace(FINE, images_seen=256))
    with log.open("a") as file:
        file.write('{"images_seen": 38')
    assert [record["images_seen"] for record in read_records(log)] == [128, 256]


def test_what_was_logged_after_the_checkpoint_is_dropped(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    rewind_records(log, 0)
    assert not log.exists()
    for images in (128, 256, 384):
        append_record(log, replace(FINE, images_seen=images))
    rewind_records(log, 256)
    assert [json.loads(line)["images_seen"] for line in log.read_text().splitlines()] == [128, 256]


def test_a_meter_takes_tensors_and_the_mean_over_the_steps_that_had_a_figure():
    meter = Meter()
    meter.add(a=torch.tensor(1.0), b=2.0)
    meter.add(a=torch.tensor(2.0), c=torch.tensor(7.0))
    assert meter.means() == {"a": 1.5, "b": 2.0, "c": 7.0}
    assert meter.take() == {"a": 1.5, "b": 2.0, "c": 7.0}
    assert meter.take() == {}


def test_a_meter_does_not_read_the_device_before_the_means_are_taken():
    with FakeTensorMode(), torch.device("cuda"):
        meter = Meter()
        for _ in range(2):
            meter.add(a=torch.ones(()), b=torch.ones(()))
        with pytest.raises(DataDependentOutputException):
            meter.take()


def test_a_meter_returns_means_and_starts_anew():
    meter = Meter()
    meter.add(a=1.0, b=2.0)
    meter.add(a=3.0, b=2.0)
    assert meter.take() == {"a": 2.0, "b": 2.0}
    meter.add(a=5.0)
    assert meter.take() == {"a": 5.0}
