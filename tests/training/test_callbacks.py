import io
import re
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from lapgan.pictures import write_png
from lapgan.run_folder import RunFolder
from lapgan.training.callbacks import CallbackList, TensorBoard, progress_callback
from lapgan.training.config import Budget
from lapgan.training.log import ClassifierRecord, LevelRecord

RECORD = LevelRecord(
    images_seen=5000,
    seconds=25.0,
    images_per_second=200.0,
    loss_d=0.61,
    loss_g=0.92,
    real_accuracy=0.7,
    fake_accuracy=0.8,
    std_ratio=1.0,
    learning_rate=0.02,
)
CLASSIFIER = ClassifierRecord(
    images_seen=2000,
    seconds=5.0,
    images_per_second=400.0,
    loss_classifier=1.234,
    accuracy=0.56,
    learning_rate=0.001,
)
FIGURES = "200 images/s  loss D 0.61 G 0.92  D right on real 70% fake 80%"


def console(*, terminal: bool, width: int = 140) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_narrow_terminal_keeps_the_bar_and_the_time_left():
    terminal = console(terminal=True, width=80)
    with progress_callback(terminal) as callback:
        callback.started("32", 0, 0.0, Budget(images=20_000))
        callback.recorded("32", RECORD)
    last = [line for line in text(terminal).splitlines() if "level 32" in line][-1]
    assert re.search(
        r"level 32 [^%]{10}  25% (-|\d+):(--|\d\d):(--|\d\d) 200 images/s  loss D 0", last
    )
    # Without the codes that move the cursor.
    assert len(re.sub(r"\x1b\[[\d;?]*\w|\r", "", last).rstrip()) <= 80


def test_a_terminal_shows_the_progress_of_each_level():
    terminal = console(terminal=True)
    with progress_callback(terminal) as callback:
        callback.started("28", 0, 0.0, Budget(images=20_000))
        callback.recorded("28", RECORD)
        callback.started("8", 0, 0.0, Budget(images=2**62, seconds=50.0))
        callback.recorded("8", RECORD)
        callback.warned("level 28: D has won.")
    lines = text(terminal).splitlines()
    fine, coarse = (
        [line for line in lines if line.strip().startswith(f"level {level} ")][-1]
        for level in ("28", "8")
    )
    assert " 25% " in fine
    assert " 50% " in coarse
    assert FIGURES in fine
    assert FIGURES in coarse
    assert "warning: level 28: D has won." in text(terminal)


def last_bars(console: Console) -> dict[str, str]:
    """The last line of each bar, by its title."""
    lines = re.sub(r"\x1b\[[\d;?]*\w|\r", "\n", text(console)).splitlines()
    titles = ("all levels", "level 8", "level 16", "level 32")
    return {
        title: [line for line in lines if line.startswith(title + " ")][-1].rstrip()
        for title in titles
    }


def test_a_narrow_terminal_shows_the_whole_run_and_the_levels_to_come():
    """Two of six minutes are over when the coarsest level of two minutes is done."""
    terminal = console(terminal=True, width=80)
    budgets = {"8": 120.0, "16": 120.0, "32": 120.0}
    with progress_callback(terminal) as callback:
        callback.planned([(part, Budget(seconds=s)) for part, s in budgets.items()])
        callback.started("8", 0, 0.0, Budget(seconds=120.0))
        callback.recorded("8", replace(RECORD, seconds=120.0))
        callback.started("16", 0, 0.0, Budget(seconds=120.0))
        callback.recorded("16", replace(RECORD, seconds=60.0))
    bars = last_bars(terminal)
    assert " 50% " in bars["all levels"]
    assert "100% " in bars["level 8"]
    assert " 50% " in bars["level 16"]
    assert bars["level 32"].endswith("to come")
    assert max(map(len, bars.values())) <= 80


def test_levels_count_by_their_pixels_where_images_are_the_limit():
    terminal = console(terminal=True, width=80)
    with progress_callback(terminal) as callback:
        callback.planned([(part, Budget(images=1000)) for part in ("8", "16", "32")])
        callback.started("8", 1000, 9.0, Budget(images=1000))
        callback.started("16", 0, 0.0, Budget(images=1000))
        callback.recorded("16", replace(RECORD, images_seen=1000))
    bars = last_bars(terminal)
    assert f" {(64 + 256) / (64 + 256 + 1024):.0%} " in bars["all levels"]
    assert bars["level 8"].endswith("done before")


def test_elsewhere_each_record_is_a_line():
    pipe = console(terminal=False)
    with progress_callback(pipe) as callback:
        callback.started("28", 0, 0.0, Budget(images=20_000))
        callback.started("classifier", 0, 0.0, Budget(images=20_000))
        callback.recorded("classifier", CLASSIFIER)
        callback.recorded("28", RECORD)
        callback.warned("level 28: D has won.")
        callback.started("8", 3000, 10.0, Budget(images=20_000))
    assert text(pipe).splitlines() == [
        "level 28 starts",
        "classifier starts",
        "classifier  2.0 kimg  5 s  400 images/s  loss of the classifier 1.23, right on 56%",
        f"level 28  5.0 kimg  25 s  {FIGURES}",
        "warning: level 28: D has won.",
        "level 8 continues after 3 kimg",
    ]


def test_elsewhere_levels_are_numbered():
    pipe = console(terminal=False)
    with progress_callback(pipe) as callback:
        callback.planned([("8", Budget(images=10)), ("28", Budget(images=10))])
        callback.started("28", 0, 0.0, Budget(images=10))
    assert text(pipe).splitlines() == ["level 28 (2 of 2) starts"]


def test_tensorboard_gets_every_figure_against_images_seen(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = CallbackList([TensorBoard(tmp_path)])
    board.started("28", 0, 0.0, Budget(images=20_000))
    board.started("classifier", 0, 0.0, Budget(images=20_000))
    board.recorded("classifier", CLASSIFIER)
    board.drawn("classifier", 2000)
    board.recorded("28", RECORD)
    sheet = RunFolder(tmp_path).part("28").sheet(5000)
    write_png(sheet, torch.full((1, 3, 5, 7), 99, dtype=torch.uint8))
    board.drawn("28", 5000)
    board.recorded("28", replace(RECORD, images_seen=6000, loss_d=0.5))
    events = EventAccumulator(str(tmp_path / "level-28")).Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("loss_d")] == [
        (5000, 0.61),
        (6000, 0.5),
    ]
    assert "fake_accuracy" in events.Tags()["scalars"]
    (image,) = events.Images("samples")
    assert (image.step, image.height, image.width) == (5000, 5, 7)
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert picture.getpixel((3, 2)) == (99, 99, 99)
    events = EventAccumulator(str(tmp_path / "classifier")).Reload()
    assert [e.step for e in events.Scalars("loss_classifier")] == [2000]
