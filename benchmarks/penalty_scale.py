"""At which scale the finite-difference penalty is that of automatic differentiation.

    python benchmarks/penalty_scale.py

Discriminators of the package are trained for 40 steps to tell two kinds of noise apart, so that
their gradients are those of nets in training. The penalty on real examples is computed exactly, and
by finite differences of several scales, 100 times each, in float32 and in bfloat16. One minute
on one core; the ratio has a standard error of 2.5%.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lapgan.models.contracts import DataInitialized
from lapgan.penalty import ExactPenalty, FiniteDifferencePenalty
from lapgan.recipe import read_recipe

LEVELS = (
    ("cifar10-cc-small", "8"),
    ("cifar10-cc-small", "16"),
    ("cifar10-cc-small", "32"),
)
SCALES = (0.003, 0.01, 0.03, 0.1, 0.3)
EXAMPLES, DRAWS, STEPS = 32, 100, 40


def train_discriminator(recipe_name: str, level_name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Trains a D on two kinds of noise; returns it and what its head sees of one kind."""
    recipe = read_recipe(recipe_name)
    level = recipe.level(level_name)
    net = level.build_discriminator(0)

    def noise(n: int, std: float) -> Tensor:
        return std * torch.randn(n, 3, *level.size)

    coarsest = level.index == len(recipe.levels) - 1
    if isinstance(net, DataInitialized):
        net.initialize_from(noise(512, 0.1), None if coarsest else noise(512, 0.5))
    fake, low = noise(EXAMPLES, 0.1), None if coarsest else noise(EXAMPLES, 0.5)
    real = fake + noise(1, 0.1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(STEPS):
        loss = softplus(-net(real, low, None)).mean() + softplus(net(fake, low, None)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    return net, tuple(x.detach() for x in net.features(real, low))


def measure_ratio(net: nn.Module, maps: tuple[Tensor, ...], scale: float, bfloat16: bool) -> float:
    """Returns the penalty by finite differences over the exact one."""

    def head(maps: tuple[Tensor, ...], label: Tensor | None) -> Tensor:
        return net.head(maps, label).float()

    exact = ExactPenalty().measure(head, maps, None, None, nn.Identity()).item()
    penalty = FiniteDifferencePenalty(scale=scale)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        draws = [penalty.measure(head, maps, None, None, net).item() for _ in range(DRAWS)]
    return sum(draws) / DRAWS / exact


def main() -> None:
    """Prints one row per level: ratios in float32, then in bfloat16."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("| D | " + " | ".join(f"{scale:g}" for scale in SCALES) + " |")
    for names in LEVELS:
        net, maps = train_discriminator(*names)
        for bfloat16 in (False, True):
            ratios = [measure_ratio(net, maps, scale, bfloat16) for scale in SCALES]
            title = f"`{names[0]}`, {names[1]}, {'bfloat16' if bfloat16 else 'float32'}"
            print(f"| {title} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
