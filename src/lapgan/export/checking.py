"""Exported graphs against PyTorch: the same inputs through both."""

from pathlib import Path

import numpy as np
import torch

from lapgan.errors import LapganError, requires
from lapgan.export.forms import Form
from lapgan.export.graphs import Graph, Inputs

__all__ = ["check_difference", "measure_difference"]

# In the scale of the nets, in which images lie in [-1, 1]: a quarter of a gray level.
_TOLERANCE = 2e-3


def measure_difference(graph: Graph, file: Path, values: Inputs) -> float:
    """Returns the largest difference of all outputs between onnxruntime and PyTorch.

    Args:
        graph: what was exported.
        file: the ONNX file.
        values: inputs from `make_inputs`, of another number of images than it was exported with.

    Returns:
        In the scale of the nets: 2 / 255 is one gray level.
    """
    with requires("export", "checking an exported graph"):
        import onnxruntime
    inputs = graph.inputs_of(values)
    with torch.inference_mode():
        expected = graph.module(inputs)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(list(expected), {name: x.numpy() for name, x in inputs.items()})
    pairs = zip(found, expected.values(), strict=True)
    return max(float(np.abs(mine - theirs.numpy()).max()) for mine, theirs in pairs)


def check_difference(graph: Graph, form: Form, difference: float) -> None:
    """Raises a LapganError if a graph in float32 computes something else than PyTorch.

    The other forms round the weights, so that their difference is a figure and no fault.
    """
    if form == "float32" and not difference <= _TOLERANCE:
        raise LapganError(
            f"{graph.name}: the exported graph differs from PyTorch by {difference:.2g}, where at "
            f"most {_TOLERANCE} was expected (images lie in [-1, 1]). Nothing was written. Try "
            "other versions of torch, onnxscript and onnxruntime."
        )
