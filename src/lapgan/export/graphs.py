"""What is exported: modules whose inputs and outputs are tensors with names.

All images are in the scale of the nets, float32 (n, 3, H, W). Sizes are part of the names: `z_8` is
the noise of the level 8x8.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level, descend
from lapgan.pyramid import Operator, gaussian_pyramid
from lapgan.sizes import Size

__all__ = [
    "CascadeGraph",
    "ClassifierGraph",
    "Graph",
    "LevelGraph",
    "PyramidGraph",
    "make_graphs",
    "make_inputs",
]

Inputs = Mapping[str, Tensor]


class LevelGraph(nn.Module):
    """One level: I~_k = u(I~_{k+1} + sigma e) + G_k(z_k, l_k, c), or I~_K = G_K(z_K, c).

    Inputs are `z`, `label` with classes, `coarse` (I~_{k+1}) but at the coarsest level, and
    `epsilon` at a level with conditioning noise. Outputs are `image`, and but at the coarsest level
    `low` (l_k) and `high` (the residual).
    """

    def __init__(self, level: Level, operator: Operator) -> None:
        super().__init__()
        self.level, self.operator = level, operator
        self.generator = level.generator

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Generates the images of the level."""
        (stage,) = descend(
            [self.level], self.operator, [inputs["z"]], inputs.get("label"), inputs.get("coarse"),
            epsilon=[inputs.get("epsilon")],
        )  # fmt: skip
        if stage.low is None:
            return {"image": stage.image}
        return {"image": stage.image, "low": stage.low, "high": stage.high}


class CascadeGraph(nn.Module):
    """All levels, with the coarsest image drawn or given.

        I~_K = given start + (1 - given) G_K(z_K, c),    then level after level

    Inputs are `z_SIZE` per level, `label` with classes, `epsilon_SIZE` per level with conditioning
    noise, and, where there is more than one level, `start` (n, 3, h, w) of the coarsest size and
    `given`, a truth value per image. The output is `image`.

    Args:
        levels: coarsest first.
        names: of the levels, in the same order.
        operator: u(.) of the pyramid.
    """

    def __init__(self, levels: list[Level], names: list[str], operator: Operator) -> None:
        super().__init__()
        self.levels, self.names, self.operator = levels, names, operator
        self.generators = nn.ModuleList(level.generator for level in levels)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Generates images of the finest level."""
        label, image = inputs.get("label"), None
        for level, name in zip(self.levels, self.names, strict=True):
            z, epsilon = inputs[f"z_{name}"], inputs.get(f"epsilon_{name}")
            (stage,) = descend([level], self.operator, [z], label, image, epsilon=[epsilon])
            if image is None and "given" in inputs:
                given = inputs["given"][:, None, None, None]
                image = torch.where(given, inputs["start"], stage.image)
            else:
                image = stage.image
        assert image is not None
        return {"image": image}


class ClassifierGraph(nn.Module):
    """log p(c | x) of every class, `log_probabilities`, from the `image` of the classifier's level.

    The best of several candidates is the one in which its class is most probable; see
    `lapgan.cascade.best_of`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Classifies images."""
        return {"log_probabilities": self.net(inputs["image"])}


class PyramidGraph(nn.Module):
    """I_{k+1} = d(I_k): from `image`, of the finest size, to `image_SIZE` of coarser levels."""

    def __init__(self, sizes: list[Size], names: list[str], operator: Operator) -> None:
        super().__init__()
        self.sizes, self.names, self.operator = sizes, names, operator

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        """Reduces images."""
        images = gaussian_pyramid(inputs["image"], self.sizes, self.operator)
        pairs = zip(self.names[1:], images[1:], strict=True)
        return {f"image_{name}": image for name, image in pairs}


@dataclass(frozen=True)
class Graph:
    """A module to export.

    Args:
        name: of its file.
        module: takes a dictionary of tensors by name, and returns one.
        inputs: names that it takes from `make_inputs`, by the names of its own inputs.
    """

    name: str
    module: nn.Module
    inputs: dict[str, str]

    def inputs_of(self, values: Inputs) -> dict[str, Tensor]:
        """Returns its inputs under its own names, from those of `make_inputs`."""
        return {own: values[name] for own, name in self.inputs.items()}


def make_graphs(cascade: Cascade) -> list[Graph]:
    """Returns every graph of a cascade: levels, coarsest first, whole, classifier, and pyramid."""
    names, operator = list(cascade.recipe.level_names), cascade.operator
    graphs = []
    whole: list[str] = []
    label = ["label"] if cascade.class_names else []
    for k in reversed(range(len(names))):
        level, name = cascade.levels[k], names[k]
        own = {"z": f"z_{name}"} | {key: key for key in label}
        if k + 1 < len(names):
            own["coarse"] = f"image_{names[k + 1]}"
        if level.sigma is not None:
            own["epsilon"] = f"epsilon_{name}"
        whole += [value for key, value in own.items() if key in ("z", "epsilon")]
        graphs.append(Graph(f"level-{name}", LevelGraph(level, operator), own))
    inputs = {key: key for key in (*whole, *label)}
    if len(names) > 1:
        inputs |= {"start": f"image_{names[-1]}", "given": "given"}
    net = CascadeGraph(cascade.levels[::-1], names[::-1], operator)
    graphs.append(Graph("cascade", net, inputs))
    if cascade.guide is not None:
        judged = f"image_{cascade.guide.section.level}"
        graphs.append(Graph("classifier", ClassifierGraph(cascade.guide.net), {"image": judged}))
    if len(names) > 1:
        pyramid = PyramidGraph(cascade.sizes, names, operator)
        graphs.append(Graph("pyramid", pyramid, {"image": f"image_{names[0]}"}))
    return graphs


def make_inputs(cascade: Cascade, n: int, seed: int) -> dict[str, Tensor]:
    """Draws values for the inputs of all graphs.

    Returns:
        `z_SIZE` and `epsilon_SIZE`, noise; `label`; `image_SIZE`, what the cascade makes of these;
        and `given`, every other one true.
    """
    random = torch.Generator().manual_seed(seed)
    values = {"given": torch.arange(n) % 2 == 1}
    if cascade.class_names:
        values["label"] = torch.randint(len(cascade.class_names), (n,), generator=random)
    names, levels = cascade.recipe.level_names, cascade.levels
    for k, (name, level) in enumerate(zip(names, levels, strict=True)):
        values[f"z_{name}"] = level.noise.sample(n, level.size, random)
        if level.sigma is not None:
            shape = (n, 3, *levels[k + 1].size)
            values[f"epsilon_{name}"] = torch.randn(shape, generator=random)
    z = [values[f"z_{name}"] for name in reversed(names)]
    epsilon = [values.get(f"epsilon_{name}") for name in reversed(names)]
    with torch.no_grad():
        stages = descend(
            levels[::-1], cascade.operator, z, values.get("label"), epsilon=epsilon
        )  # fmt: skip
    images = zip(reversed(names), stages, strict=True)
    return values | {f"image_{name}": stage.image for name, stage in images}
