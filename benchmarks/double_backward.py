"""The exact gradient penalty and its gradients, in three forms.

    python benchmarks/double_backward.py [--recipe cifar10-cc] [--batch 64] [--level SIZE]
        [--device auto] [--compile]

For each level of the recipe, of examples that are noise: the time of the penalty and of its
gradients by the weights of D, the median of some rounds, by turns.

- PyTorch: the gradient by the examples, differentiated again.
- ours: the same with the convolutions of `lapgan.double_backward`.
- tangent: no second derivative. With g the gradient of D at x, held fixed,

      grad_w ||g||^2 = 2 grad_w D'(x) g

  where D'(x) g is the derivative in the direction g, in forward mode. That can be compiled, which
  `--compile` does.

"difference" is that of all gradients together from those of PyTorch, relative to their norm: the
larger one of the other two.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from lapgan import penalty
from lapgan.compilation import compile_function
from lapgan.compute import choose_compute
from lapgan.double_backward import differentiable_gradients
from lapgan.recipe import read_recipe
from lapgan.training.freezing import freeze

Maps = tuple[Tensor, ...]
Head = Callable[[Maps], Tensor]
Form = Callable[[nn.Module, Maps], Tensor]


def plain_gradients(function: Head, x: Maps) -> Maps:
    return torch.autograd.grad(function(x).sum(), x, create_graph=True)


def penalty_with(gradients: Callable[[Head, Maps], Maps]) -> Form:
    def measure(net: nn.Module, maps: Maps) -> Tensor:
        penalty.differentiable_gradients = gradients  # type: ignore[assignment]
        return penalty.exact_penalty(lambda maps: net.head(maps, None), maps)  # type: ignore[operator]

    return measure


def tangent_penalty(compiled: bool) -> Form:
    def total(net: nn.Module, maps: Maps) -> Tensor:
        return net.head(maps, None).float().sum()  # type: ignore[operator, no-any-return]

    def along(net: nn.Module, maps: Maps, direction: Maps) -> Tensor:
        return torch.func.jvp(lambda *maps: total(net, maps), maps, direction)[1]

    if compiled:
        total, along = compile_function(total), compile_function(along)

    def measure(net: nn.Module, maps: Maps) -> Tensor:
        maps = tuple(x.detach().requires_grad_() for x in maps)
        with freeze(net):
            gradients = torch.autograd.grad(total(net, maps), maps)
        norm = torch.stack([g.float().square().sum() for g in gradients]).sum()
        slope = 2 * along(net, tuple(x.detach() for x in maps), gradients)
        # The value of the first, and the derivative of the second.
        return (norm + slope - slope.detach()) / len(maps[0])

    return measure


def seconds_of(net: nn.Module, maps: Maps, form: Form) -> tuple[float, Tensor]:
    """Returns seconds, and all gradients by the weights as one vector."""
    net.zero_grad()
    _wait()
    start = time.perf_counter()
    form(net, maps).backward()
    _wait()
    seconds = time.perf_counter() - start
    found = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return seconds, torch.cat(found)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main(
    recipe: Annotated[str, typer.Option()] = "cifar10-cc",
    batch: Annotated[int, typer.Option(min=8, help="Real and generated examples.")] = 64,
    device: Annotated[str, typer.Option()] = "auto",
    compile_: Annotated[bool, typer.Option("--compile")] = False,
    level: Annotated[list[str] | None, typer.Option(help="By default all; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    chosen, compute = read_recipe(recipe), choose_compute(device)
    forms = {
        "PyTorch": penalty_with(plain_gradients),
        "ours": penalty_with(differentiable_gradients),
        "tangent": tangent_penalty(compile_),
    }
    how = "compiled" if compile_ else "as it is"
    print(f"{recipe}, {batch} examples, {compute}, tangent {how}, torch {torch.__version__}")
    print(f"{'level':>6} {'PyTorch':>9} {'ours':>9} {'tangent':>9} {'difference':>10}   (seconds)")
    for at in chosen.levels:
        if level and at.name not in level:
            continue
        torch.manual_seed(0)
        net = compute.place(at.build_discriminator(0))
        examples = torch.randn(2, batch, 3, *at.size, device=compute.device)
        low = None if at is chosen.levels[-1] else examples[1]
        with torch.no_grad():
            # The last convolution of a block starts at zero.
            for weight in net.parameters():
                weight += 0.02 * torch.randn_like(weight)
            maps = net.features(examples[0], low)  # type: ignore[operator]
        with compute.autocast():
            turns = [
                {name: seconds_of(net, maps, form) for name, form in forms.items()}
                for _ in range(rounds + 1)
            ]
        # The first turn waits for the compiler.
        times = [statistics.median(turn[name][0] for turn in turns[1:]) for name in forms]
        found = {name: gradients for name, (_, gradients) in turns[-1].items()}
        expected = found.pop("PyTorch")
        difference = max((g - expected).norm() / expected.norm() for g in found.values())
        print(f"{at.name:>6} " + " ".join(f"{t:9.3f}" for t in times) + f" {difference:10.1e}")


if __name__ == "__main__":
    typer.run(main)
