"""The forms in which a graph's large weights are stored: float32, float16, or 8 bits.

Whatever is stored, everything is computed in float32: a graph turns its weights into float32 with
standard operations on constants, which runtimes carry out once, when they load it. So each form
runs everywhere, and only its rounding sets it apart:

    float16: w = float(h),    int8: w[o] = scale[o] q[o],  scale[o] = max |w[o]| / 127

The 8-bit form rounds as `lapgan.weights.quantize` does, so a model that was packed so is rounded no
further.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["FORMS", "Form", "choose_form", "store_as"]

Form = Literal["float32", "float16", "int8"]
FORMS: tuple[Form, ...] = get_args(Form)
# Of smaller tensors a shorter copy would save nothing that counts.
_LARGE = 4096
# In steps of the 8-bit form: what float32 makes of whole numbers.
_EXACT = 1e-3


def choose_form(nets: Iterable[nn.Module]) -> Form:
    """Returns int8 if that rounds no weight of the nets (`lapgan pack --int8`), or float16."""
    for net in nets:
        for name, w in net.named_parameters():
            if not (name.endswith("weight") and w.dim() > 1 and w.numel() >= _LARGE):
                continue
            steps = w.detach().flatten(1).float()
            steps = steps * (127 / steps.abs().amax(1, keepdim=True).clamp(min=1e-30))
            if bool(((steps - torch.round(steps)).abs() > _EXACT).any()):
                return "float16"
    return "int8"


def store_as(model: "ModelProto", form: Form) -> "ModelProto":
    """Returns a copy of a model whose large weights are stored in a form.

    Args:
        model: with weights in float32; those to store are named `*.weight`.
        form: see the module.
    """
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    if form == "float32":
        return copy
    graph = copy.graph
    tensors, nodes = [], []
    for tensor in graph.initializer:
        if _is_large_weight(tensor):
            stored, made = _shorten(tensor, form)
            tensors += stored
            nodes += made
        else:
            tensors.append(tensor)
    nodes += graph.node  # nodes are in the order of computation
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    return copy


def _is_large_weight(tensor: "TensorProto") -> bool:
    from onnx import TensorProto

    return (
        tensor.data_type == TensorProto.FLOAT
        and tensor.name.endswith(".weight")
        and len(tensor.dims) > 1
        and int(np.prod(tensor.dims)) >= _LARGE
    )


def _shorten(tensor: "TensorProto", form: Form) -> "tuple[list[TensorProto], list[NodeProto]]":
    """Returns what is stored instead of a tensor, and the nodes that rebuild it."""
    from onnx import TensorProto, helper, numpy_helper

    name, w = tensor.name, numpy_helper.to_array(tensor)
    if form == "float16":
        stored = [numpy_helper.from_array(w.astype(np.float16), f"{name}:half")]
        return stored, [helper.make_node("Cast", [f"{name}:half"], [name], to=TensorProto.FLOAT)]
    scale = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True) / np.float32(127)
    # A channel of zeros stays one.
    q = np.round(w / np.where(scale > 0, scale, 1)).astype(np.int8)
    stored = [
        numpy_helper.from_array(q, f"{name}:int8"),
        numpy_helper.from_array(scale, f"{name}:scale"),
    ]
    nodes = [
        helper.make_node("Cast", [f"{name}:int8"], [f"{name}:float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}:float", f"{name}:scale"], [name]),
    ]
    return stored, nodes
