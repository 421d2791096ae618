"""Warnings about a training that goes wrong."""

from lapgan.training.log import LevelRecord, Record

__all__ = ["HealthMonitor"]

# A level's residuals are near zero at first, and D may be right on most examples for a while.
_WARM_UP = 20_000


class HealthMonitor:
    """Warns when training looks wrong, and says what may help; once until the cause is gone."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.active: set[str] = set()

    def warnings(self, record: Record) -> list[str]:
        """Returns the warnings of a record that the record before did not give."""
        if not isinstance(record, LevelRecord) or record.images_seen < _WARM_UP:
            return []
        checks = {
            "discriminator": _check_discriminator(record),
            "generator": _check_generator(record),
        }
        messages = {kind: message for kind, message in checks.items() if message}
        new = [
            f"level {self.level}: {message}"
            for kind, message in messages.items()
            if kind not in self.active
        ]
        self.active = set(messages)
        return new


def _check_discriminator(record: LevelRecord) -> str | None:
    accuracy = min(record.real_accuracy, record.fake_accuracy)
    if accuracy < 0.98 or record.loss_g < 4:
        return None
    return (
        f"D has won: it is right on {accuracy:.0%} of the examples (loss of G "
        f"{record.loss_g:.1f}), so the gradients of G are small. A smaller or more regularized D "
        "(fewer maps or units, more dropout), or a lower learning rate, may help."
    )


def _check_generator(record: LevelRecord) -> str | None:
    if record.std_ratio > 0.1:
        return None
    return (
        f"G has collapsed: its examples vary {record.std_ratio:.0%} as much as real examples. If "
        "this lasts, start again in a new run folder with a lower learning rate or another seed."
    )
