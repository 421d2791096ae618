"""A run folder as `train` leaves it, grown in tests, and its page in a thread."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import torch

from lapgan.pictures import write_png
from lapgan.recipe import Recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.watch import make_server


def make_run(path: Path, recipe: Recipe) -> RunFolder:
    """A run of which only the coarsest level, 6x8, has begun: half of its budget is spent."""
    folder = RunFolder(path)
    folder.path.mkdir(parents=True)
    identity = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": 3,
        "data": {"name": "<b>gradients</b>", "fingerprint": "f"},
        "precision": "float32",
    }
    folder.identity.write_text(json.dumps(identity))
    part = folder.part("6x8")
    part.path.mkdir()
    part.budget.write_text('{"images": 20000, "seconds": null}')
    for step in range(1, 11):
        add_record(part, 1000 * step)
    add_sheet(part, 5000)
    add_sheet(part, 10_000)
    return folder


def add_record(part: PartFolder, images_seen: int) -> None:
    record = {"images_seen": images_seen, "seconds": images_seen / 100, "images_per_second": 100.0}
    record |= {"loss_d": 0.7 - images_seen / 1e5, "loss_g": 0.7 + images_seen / 1e5}
    record |= {"real_accuracy": 0.5, "fake_accuracy": 0.6, "std_ratio": 1.0}
    record |= {"gradient_d": 1e-3 * images_seen, "gradient_g": 10.0, "learning_rate": 0.001}
    with part.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def add_sheet(part: PartFolder, images_seen: int) -> None:
    images = torch.full((4, 3, 6, 8), images_seen % 251, dtype=torch.uint8)
    write_png(part.sheet(images_seen), images, columns=2)


@contextmanager
def watching(run: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serves a run's page for as long as the block lasts; yields its address."""
    with make_server(run, host) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
