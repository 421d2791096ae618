from dataclasses import replace

import pytest
from records import FINE

from lapgan.training.log import ClassifierRecord
from lapgan.training.monitor import HealthMonitor


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"real_accuracy": 1.0, "fake_accuracy": 0.99, "loss_g": 7.0}, "level 28: D has won"),
        ({"std_ratio": 0.03}, "level 28: G has collapsed: its examples vary 3% as much"),
    ],
)
def test_what_looks_wrong_is_reported_once_until_it_clears(change: dict[str, float], words: str):
    fine = replace(FINE, images_seen=50_000)
    monitor, bad = HealthMonitor("28"), replace(fine, **change)
    assert monitor.warnings(replace(bad, images_seen=1000)) == []
    assert monitor.warnings(fine) == []
    (message,) = monitor.warnings(bad)
    assert message.startswith(words)
    assert monitor.warnings(bad) == []
    assert monitor.warnings(fine) == []
    assert len(monitor.warnings(bad)) == 1


def test_a_d_that_is_always_right_is_no_reason_to_warn_while_g_has_gradients():
    sharp = replace(FINE, images_seen=50_000, real_accuracy=1.0, fake_accuracy=1.0)
    assert HealthMonitor("28").warnings(sharp) == []


def test_a_classifier_is_not_judged_as_a_level():
    record = ClassifierRecord(50_000, 2.0, 64.0, loss_classifier=9.0, accuracy=0.0, learning_rate=1)
    assert HealthMonitor("classifier").warnings(record) == []
