"""Every generator with every form of noise: the same images in onnxruntime as in PyTorch.

All noise reaches a net as one vector, as planes, or as both. The paper's nets are exported with
every kind of noise, the others with one kind of each form. The kinds are taken from the package,
so a new generator is tested as soon as it is named.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lapgan import models
from lapgan.cascade import Level
from lapgan.export.checking import measure_difference
from lapgan.export.graphs import Graph, LevelGraph
from lapgan.export.writing import export_graph
from lapgan.noise import MixedNoise, VectorNoise

SIZE, COARSE, CLASSES, SIGMA = (8, 12), (4, 6), 2, 0.2
SMALL = {
    "units": 16, "maps": 8, "blocks": 1, "patch": 2, "dropout": 0.1, "groups": 2, "style": 8,
    "takes_sigma": True,
}  # fmt: skip
# One that takes no image and one that takes one; the others are exported by `-m slow`.
BY_DEFAULT = ("paper-dense hashed", "paper-conv low-rank learned")
# One that takes a vector and one that takes planes are exported with every kind of noise, and with
# factors that are learned and so are weights of theirs.
WITH_EVERY_NOISE = ("paper-dense", "paper-conv")


def form_of(noise: Any) -> str:
    if isinstance(noise, VectorNoise | MixedNoise):
        return type(noise).__name__
    return "planes"


def pairs() -> list[Any]:
    found: list[tuple[str, Any, Any]] = []
    for module in (import_module(f"lapgan.models.{name}") for name in models.FAMILIES):
        for kind in getattr(module, "GENERATORS", ()):
            name = kind().kind
            for noise in kind.takes_noise:
                forms = {form_of(other) for _, of, other in found if of is kind}
                if name not in WITH_EVERY_NOISE and form_of(noise()) in forms:
                    continue
                found.append((f"{name} {noise().kind}", kind, noise()))
                if "factor" in noise.model_fields and name in WITH_EVERY_NOISE:
                    learned = noise(factor="learned")
                    found.append((f"{name} {learned.kind} learned", kind, learned))
    return [
        pytest.param(kind, noise, id=name, marks=() if name in BY_DEFAULT else pytest.mark.slow)
        for name, kind, noise in found
    ]


def section_of(kind: Any) -> Any:
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    fields = {name: value for name, value in SMALL.items() if name in defaults}
    return kind(**{
        name: (value,) if isinstance(defaults[name], tuple) else value
        for name, value in fields.items()
    })  # fmt: skip


def build_level(kind: Any, noise: Any) -> Level:
    section = section_of(kind)
    net = section.build(SIZE, noise, CLASSES).eval()
    for parameter in net.parameters():
        fan_in = parameter[:1].numel() if parameter.dim() > 1 else 1
        nn.init.normal_(parameter, std=min(0.3, fan_in**-0.5))
    return Level(SIZE, noise, net, SIGMA if section.takes_sigma else None)


def draw_inputs(kind: Any, noise: Any, n: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(n)
    values = {"z": noise.sample(n, SIZE, random), "label": torch.arange(n) % CLASSES}
    if kind.takes_low:
        values["coarse"] = torch.randn(n, 3, *COARSE, generator=random)
    if section_of(kind).takes_sigma:
        values["epsilon"] = torch.randn(n, 3, *COARSE, generator=random)
    return values


@pytest.mark.parametrize(("kind", "noise"), pairs())
def test_a_level_draws_in_onnxruntime_what_it_draws_in_pytorch(
    kind: Any, noise: Any, tmp_path: Path
):
    values = draw_inputs(kind, noise, 3)
    level = LevelGraph(build_level(kind, noise), "bilinear")
    graph = Graph("level", level, {key: key for key in values})
    with torch.no_grad():
        image = level(values)["image"]
    assert image.shape == (3, 3, *SIZE)
    assert image.std(0).mean() > 0.01
    exported = export_graph(graph, draw_inputs(kind, noise, 2))
    (tmp_path / "level.onnx").write_bytes(exported.SerializeToString())
    assert measure_difference(graph, tmp_path / "level.onnx", values) < 1e-4
