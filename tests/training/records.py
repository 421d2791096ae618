"""A record in tests, of a level in good health."""

from lapgan.training.log import LevelRecord

FINE = LevelRecord(
    images_seen=128,
    seconds=2.0,
    images_per_second=64.0,
    loss_d=0.69,
    loss_g=0.7,
    real_accuracy=0.5,
    fake_accuracy=0.5,
    std_ratio=1.0,
    learning_rate=0.02,
)
