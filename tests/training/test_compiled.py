"""Levels whose nets are compiled: marked slow, since the compiler takes seconds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from levels import after, content_of, revise, state_of

from lapgan.compilation import explain_compiler_errors
from lapgan.errors import LapganError
from lapgan.models.residual import ResidualGenerator
from lapgan.models.residual_views import ResidualDiscriminator
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.level import LevelTask
from lapgan.training.loop import train_task

pytestmark = [
    pytest.mark.slow,
    # Of the compiler itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


def beside(task: LevelTask, name: str, **changes: Any) -> LevelTask:
    return replace(task, folder=PartFolder(task.folder.path.with_name(name)), **changes)


def test_a_compiled_level_trains_as_the_nets_themselves_and_is_resumed_exactly(task: LevelTask):
    content = content_of(task)
    content["training"]["penalty"] = {"kind": "exact", "every": 2}
    content["levels"]["6x8"]["discriminator"]["dropout"] = 0.0
    content["training"]["optimiser"] = {"kind": "adam", "learning_rate": 1e-4}
    content["data"] |= {"classes": True}
    task = revise(task, content, "6x8")
    task = replace(task, compute=replace(task.compute, dtype=torch.float32))
    eager = beside(task, "eager")
    compiled = replace(task, compute=replace(task.compute, compiled=True))
    straight = beside(compiled, "straight")
    for each in (eager, straight):
        train_task(each, Callback())
    train_task(compiled, Callback(), stopped=after(3))
    train_task(compiled, Callback())
    expected, state = state_of(straight), state_of(compiled)
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    # Eight steps of at most 1e-4 with Adam; the compiler rounds in other places.
    for name, tensor in state_of(eager).items():
        if name.startswith(("g.", "d.")):
            assert (tensor - state[name]).abs().max() < 4e-4, name
    assert any(not torch.equal(tensor, state[name]) for name, tensor in state_of(eager).items())


def test_an_error_of_the_compiler_says_how_to_do_without_it():
    from torch._dynamo.exc import TorchDynamoException

    with (
        pytest.raises(LapganError, match=r"compiled \(bad graph\)\. .* --no-compile in a new"),
        explain_compiler_errors(True),
    ):
        raise TorchDynamoException("bad graph")
    with pytest.raises(ValueError, match="mine"), explain_compiler_errors(True):
        raise ValueError("mine")


def test_compiled_residual_nets_compute_what_they_are():
    g = ResidualGenerator((8, 8), maps=(16, 16), noise=(4, 2), style=8, groups=4)
    d = ResidualDiscriminator((8, 8), maps=(16, 16), units=8)
    for weight in (*g.parameters(), *d.parameters()):
        # The last convolution of a block starts at zero.
        torch.nn.init.normal_(weight, std=0.1)
    low, z = torch.randn(3, 3, 8, 8), torch.randn(3, 4 + 2 * 64)
    results = []
    for compiled in (False, True):
        net, head = (
            torch.compile(f, backend="aot_eager", disable=not compiled) for f in (g, d.head)
        )
        g.zero_grad()
        d.zero_grad()
        logits = head(d.features(net(low, z, None), low), None)
        logits.square().sum().backward()
        gradients = [
            w.grad.clone() for w in (*g.parameters(), *d.parameters()) if w.grad is not None
        ]
        results.append([logits.detach(), *gradients])
    assert len(results[0]) > 20
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-4)
