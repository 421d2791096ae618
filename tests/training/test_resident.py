from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from levels import after, content_of, revise, state_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lapgan import pyramid
from lapgan.batches import Batches
from lapgan.compute import Compute, choose_compute
from lapgan.data import Images
from lapgan.noise import correlated
from lapgan.run_folder import PartFolder
from lapgan.training import update as update_module
from lapgan.training.callbacks import Callback
from lapgan.training.level import LevelTask
from lapgan.training.loop import train_task
from lapgan.training.resident import ResidentBatches, place_batches
from lapgan.training.rollback import Window

CPU = choose_compute("cpu", "float32")
CUDA = Compute(torch.device("cuda"), torch.float32, "as asked")


@pytest.mark.parametrize("options", [
    {}, {"flip": True}, {"replacement": True}, {"corners": True},
    {"corners": True, "flip": True, "replacement": True},
], ids=lambda options: " ".join(options) or "plain")  # fmt: skip
def test_images_on_the_device_give_the_same_minibatches(images: Images, options: dict[str, bool]):
    size = (9, 10) if "corners" in options else (12, 12)
    batches = Batches(images, size, seed=3, **options)
    resident = ResidentBatches(batches, CPU)
    assert resident.epoch == batches.epoch
    # The second of them reaches into another epoch.
    for images_seen in (0, batches.epoch - 5, 10**6):
        pixels, labels = batches.at(images_seen, 16)
        other, other_labels = resident.at(images_seen, 16)
        assert torch.equal(pixels, other)
        assert labels is not None
        assert torch.equal(labels, other_labels)


def test_a_level_trained_from_images_on_the_device_ends_in_the_same_weights(task: LevelTask):
    assert isinstance(task.batches, Batches)
    straight = replace(task, folder=PartFolder(task.folder.path.with_name("straight")))
    train_task(straight, Callback())
    resident = replace(task, batches=ResidentBatches(task.batches, task.compute))
    train_task(resident, Callback(), stopped=after(3))
    train_task(resident, Callback())
    expected, state = state_of(straight), state_of(task)
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)


def test_images_go_to_a_device_in_whose_memory_they_fit(
    task: LevelTask, monkeypatch: pytest.MonkeyPatch
):
    batches = task.batches
    assert isinstance(batches, Batches)
    assert place_batches(batches, CPU) is batches
    free = 4 * batches.images.pixels.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    with FakeTensorMode(allow_non_fake_inputs=True):
        placed = place_batches(batches, CUDA)
        assert isinstance(placed, ResidentBatches)
        assert placed.pixels.device.type == "cuda"
        # Two levels at once need twice the memory.
        assert place_batches(batches, CUDA, at_once=2) is batches


class Waits(TorchDispatchMode):
    """Counts what a processor waits for: values, and copies that are not sent ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs, aten = kwargs or {}, torch.ops.aten
        if function is aten._local_scalar_dense.default:
            self.found.append("a value is read")
        source = target = None
        waits = not kwargs.get("non_blocking")
        if function is aten._to_copy.default:
            source, target = args[0].device, kwargs.get("device")
        if function is aten.copy_.default:
            source, target, waits = args[1].device, args[0].device, waits and len(args) < 3
        if source and target and waits and source.type != torch.device(target).type:
            self.found.append(f"{tuple(args[0].shape)} from {source} to {target}")
        return function(*args, **kwargs)


def without_generator(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *shape, generator=None, **options: draw(*shape, **options)


def is_maps(x: object) -> bool:
    return isinstance(x, Tensor)


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CUDA device without values, without a backward pass, and without generators."""
    monkeypatch.setattr(Compute, "seed", lambda self, seed: None)
    device = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(Compute, "generator", lambda self, seed: device)
    for name in ("rand", "randn"):
        monkeypatch.setattr(torch, name, without_generator(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
    place = Compute.place
    # Nets are built on the device.
    monkeypatch.setattr(Compute, "place", lambda self, x: place(self, x) if is_maps(x) else x)
    norm = lambda optimizer, loss, clip: loss.detach()  # noqa: E731
    monkeypatch.setattr(update_module, "update_weights", norm)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    for remembered in (pyramid._matrix, correlated._hash, correlated._rows):
        remembered.cache_clear()


PAPER: dict[str, Any] = {
    "supervised": {"weight": 0.5, "best_of": 2},
    "instance_noise": 0.1,
    "augment": True,
}
PATCH = {
    "generator": {"kind": "modern-patch", "patch": 2, "maps": 8, "blocks": 1},
    "discriminator": {"kind": "modern-patch", "patch": 2, "maps": 8, "units": 8},
    "penalty": {"kind": "finite-difference", "every": 1},
}
RESIDUAL = {
    "noise": {"kind": "mixed", "dimension": 4, "planes": 1},
    "generator": {"kind": "residual", "maps": [8, 8], "groups": 4, "style": 8},
    "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
}
HASHED = {"noise": {"kind": "hashed"}}
LOW_RANK = {"noise": {"kind": "low-rank"}}


@pytest.mark.parametrize(
    ("level", "objective", "resident"),
    [
        (PAPER, "non-saturating", True),
        (PATCH, "relativistic", False),
        (RESIDUAL, "relativistic", True),
        (HASHED, "non-saturating", False),
        (LOW_RANK, "non-saturating", True),
    ],
    ids=["paper", "patch", "residual", "hashed", "low-rank"],
)
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_step_waits_for_no_device(
    task: LevelTask,
    monkeypatch: pytest.MonkeyPatch,
    level: dict[str, Any],
    objective: str,
    resident: bool,
):
    content = content_of(task)
    content["training"] |= {"objective": objective, "clip_gradients": 1.0}
    content["data"] |= {"flip": True, "classes": True}
    content["levels"]["12"] |= level
    task = revise(task, content, "12")
    with pretended_cuda(monkeypatch):
        batches = ResidentBatches(task.batches, CUDA) if resident else task.batches
        normalization = task.normalization.to(CUDA.device)
        task = replace(task, compute=CUDA, batches=batches, normalization=normalization)
        with torch.device("cuda"):
            state = replace(task.initial_state(), window=Window())
        # The first step makes what is remembered.
        task.step(state)
        with Waits() as waits:
            figures: dict[str, Tensor] = task.step(state)
        assert {x.device.type for x in figures.values()} == {"cuda"}
        assert state.nets.generator_optimizer.defaults["fused"]
    assert waits.found == []


def test_what_a_processor_waits_for_is_noticed():
    with FakeTensorMode(), Waits() as waits:
        x = torch.zeros(3, device="cuda")
        x.cpu()
        x.copy_(torch.zeros(3))
        x.copy_(torch.zeros(3), non_blocking=True)
    assert len(waits.found) == 2
