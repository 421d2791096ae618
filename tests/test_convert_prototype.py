"""The conversion of the prototype's files: the cascade draws what the files' formulas say.

The nets are written out once more here as functions of named tensors, without a module of the
package.
"""

import importlib.util
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from lapgan.cascade import Cascade, CascadeNet
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.recipe import Recipe, read_recipe
from lapgan.weights import quantize, write_weights

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "convert_prototype.py"
Tensors = dict[str, Tensor]
SMALL = [
    *("levels.32.generator.maps=[16,32]", "levels.16.generator.maps=[32]"),
    *("levels.8.generator.maps=32", "levels.8.noise.dimension=20"),
    *("levels.32.noise={kind='mixed',dimension=5,planes=2}",),
    *("levels.16.noise={kind='mixed',dimension=5,planes=2}",),
]

_spec = importlib.util.spec_from_file_location("convert_prototype", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
prototype = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(prototype)


def linear(p: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def conv(p: Tensors, name: str, x: Tensor) -> Tensor:
    weight = p[f"{name}.weight"]
    return F.conv2d(x, weight, p[f"{name}.bias"], padding=weight.shape[-1] // 2)


def norm(p: Tensors, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 16, p.get(f"{name}.weight"), p.get(f"{name}.bias"))


def block(p: Tensors, name: str, x: Tensor, w: Tensor, factor: float = 1) -> Tensor:
    def change(x: Tensor) -> Tensor:
        if factor == 2:
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return x if factor == 1 else F.avg_pool2d(x, 2)

    h = conv(p, f"{name}.conv1", change(F.silu(norm(p, f"{name}.norm1", x))))
    a, b = linear(p, f"{name}.modulation", w)[..., None, None].chunk(2, 1)
    h = conv(p, f"{name}.conv2", F.silu((1 + a) * norm(p, f"{name}.norm2", h) + b))
    x = change(x)
    return h + (conv(p, f"{name}.skip", x) if f"{name}.skip.weight" in p else x)


def style(p: Tensors, x: Tensor) -> Tensor:
    return F.silu(linear(p, "style.second", F.silu(linear(p, "style.first", x))))


def coarsest(p: Tensors, z: Tensor, label: Tensor) -> Tensor:
    joint = torch.cat((z, p["style.embedding.weight"][label]), 1)
    w, x = style(p, joint), linear(p, "project", joint).view(len(z), -1, 4, 4)
    for index in range(5):
        x = block(p, f"blocks.{index}", x, w, 2 if index == 1 else 1)
    return conv(p, "out", F.silu(norm(p, "norm", x)))


def residual(
    p: Tensors, low: Tensor, z: tuple[Tensor, Tensor], label: Tensor, sigma: float
) -> Tensor:
    n = len(low)
    w = style(
        p, torch.cat((z[0], p["style.embedding.weight"][label], torch.full((n, 1), 10 * sigma)), 1)
    )
    x, skips = conv(p, "into", torch.cat((2 * low, z[1]), 1)), []
    grids = sum(name.startswith("down.") and name.endswith("conv1.bias") for name in p) // 2
    for grid in range(grids):
        x = block(p, f"down.{2 * grid}", x, w, 0.5 if grid else 1)
        x = block(p, f"down.{2 * grid + 1}", x, w)
        skips.append(x)
    for step, skip in enumerate(reversed(skips[:-1])):
        x = torch.cat((block(p, f"up.{2 * step}", x, w, 2), skip), 1)
        x = block(p, f"up.{2 * step + 1}", x, w)
    return p["residual_std"] * conv(p, "out", F.silu(norm(p, "norm", x)))


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe("cifar10-cc", SMALL)


@pytest.fixture
def stored(recipe: Recipe, tmp_path: Path) -> dict[str, Tensors]:
    """The prototype's files with small nets: some weights in int8, as they are computed."""
    tensors: dict[str, Tensors] = {}
    for level in recipe.levels:
        file: Tensors = {}
        tensors[level.name] = read = {}
        for name, tensor in level.build_generator(10).state_dict().items():
            # Small steps within each block, for rounding not to grow from block to block.
            fan_in = max(tensor[:1].numel(), 16)
            read[name] = torch.randn(tensor.shape) / fan_in**0.5
            if tensor.dim() > 1 and tensor.numel() >= 4096:
                file[name] = torch.randint(-127, 128, tensor.shape, dtype=torch.int8)
                file[name].flatten(1)[:, 0] = 127
                file[f"{name}:scale"] = torch.rand(len(tensor)) / fan_in**0.5 / 127
                shape = (-1, *[1] * (tensor.dim() - 1))
                read[name] = file[name].float() * file[f"{name}:scale"].view(shape)
            else:
                file[name] = read[name]
        safetensors.torch.save_file(file, tmp_path / f"level{level.name}.safetensors")
    return tensors


@torch.no_grad()
def test_the_converted_cascade_draws_what_the_prototype_draws(
    stored: dict[str, Tensors], recipe: Recipe, tmp_path: Path
):
    write_weights(tmp_path / "w.safetensors", quantize(prototype.convert(tmp_path, recipe)))
    cascade = Cascade.load(tmp_path / "w.safetensors", choose_compute("cpu", "float32"))
    assert cascade.class_names[3] == "cat"
    label, z8 = torch.tensor([0, 3, 9]), torch.randn(3, 20)
    z, epsilon = [z8], [None]
    image = coarsest(stored["8"], z8, label)
    for size, sigma in ((16, 0.06), (32, 0.04)):
        vector, planes = torch.randn(3, 5), torch.randn(3, 2, size, size)
        e = torch.randn(3, 3, size // 2, size // 2)
        low = double(image.clamp(-1.1, 1.1) + sigma * e)
        image = low + residual(stored[str(size)], low, (vector, planes), label, sigma)
        z.append(torch.cat((vector, planes.flatten(1)), 1))
        epsilon.append(e)  # type: ignore[arg-type]
    net = CascadeNet(list(reversed(cascade.levels)), cascade.operator)
    drawn = net(z, label, epsilon=epsilon)
    assert drawn.std() > 0.1
    # Thirty convolutions of random weights amplify rounding; another formula is off by 0.01.
    torch.testing.assert_close(drawn, image, atol=2e-4, rtol=0)


def test_files_that_are_missing_or_of_other_nets_are_named(
    stored: dict[str, Tensors], recipe: Recipe, tmp_path: Path
):
    with pytest.raises(LapganError, match=r"level 32 does not fit its recipe"):
        prototype.convert(tmp_path, read_recipe("cifar10-cc"))
    (tmp_path / "level16.safetensors").unlink()
    with pytest.raises(LapganError, match=r"level16\.safetensors: cannot be read"):
        prototype.convert(tmp_path, recipe)
