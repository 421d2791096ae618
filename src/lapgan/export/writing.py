"""Writing a cascade as ONNX graphs with a manifest, or as a program of `torch.export`."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lapgan.cascade import Cascade
from lapgan.errors import LapganError, requires
from lapgan.export.checking import check_difference, measure_difference
from lapgan.export.forms import FORMS, Form, store_as
from lapgan.export.graphs import Graph, Inputs, make_graphs, make_inputs
from lapgan.export.manifest import describe_cascade
from lapgan.files import atomic_folder, atomic_path, write_json

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OPSET", "export_graph", "export_onnx", "export_torch"]

OPSET = 20
_SEED = 0
# Exported with 2 images and checked with 3, so that a number that became fixed is found.
_TRACED, _CHECKED = 2, 3


def export_onnx(
    cascade: Cascade,
    folder: Path,
    model: str,
    forms: Sequence[Form] = ("float32",),
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """Writes every graph of a cascade in each form, checked against PyTorch, with a manifest.

    Args:
        cascade: on the CPU.
        folder: a new folder; it appears whole or not at all.
        model: the name of the model, for people.
        forms: how to store the weights; see `lapgan.export.forms`.
        whole: whether to write `cascade.onnx` too.

    Returns:
        The content of `manifest.json`: that of `describe_cascade`, `opset`, and `graphs`, each with
        `graph`, `form`, `file`, `bytes`, `sha256`, `inputs` and `outputs` (shapes; -1 is the number
        of images) and `largest_difference` from PyTorch in the scale of the nets.

    Raises:
        LapganError: the folder exists or cannot be written, a form is unknown, a package is not
            installed, or a graph does not compute what PyTorch does.
    """
    for form in forms:
        if form not in FORMS:
            raise LapganError(f"form {form!r}: expected one of {', '.join(FORMS)}.")
    _check_device(cascade)
    traced, checked = (make_inputs(cascade, n, _SEED) for n in (_TRACED, _CHECKED))
    with atomic_folder(folder) as new:
        entries = []
        for graph in make_graphs(cascade):
            if graph.name == "cascade" and not whole:
                continue
            exported = export_graph(graph, traced)
            for form in forms if graph.name != "pyramid" else forms[:1]:
                entries.append(_write_graph(graph, exported, form, new, checked))
        manifest = describe_cascade(cascade, model) | {"opset": OPSET, "graphs": entries}
        write_json(new / "manifest.json", manifest)
    return manifest


def export_torch(cascade: Cascade, file: Path) -> float:
    """Writes the whole cascade as a program of `torch.export`, for `torch.export.load`.

    The program takes a dictionary of tensors and returns one; see `CascadeGraph`.

    Args:
        cascade: on the CPU.
        file: a name that ends in .pt2.

    Returns:
        The largest difference from the cascade, in the scale of the nets.

    Raises:
        LapganError: the file cannot be written or has another suffix.
    """
    if file.suffix != ".pt2":
        raise LapganError(f"--torch {file}: expected a name that ends in .pt2.")
    _check_device(cascade)
    (graph,) = [graph for graph in make_graphs(cascade) if graph.name == "cascade"]
    inputs = graph.inputs_of(make_inputs(cascade, _CHECKED, _SEED))
    with torch.no_grad():
        expected = graph.module(inputs)["image"]
        traced = graph.inputs_of(make_inputs(cascade, _TRACED, _SEED))
        program = torch.export.export(graph.module, (traced,), dynamic_shapes=_any_number(traced))
        difference = float((program.module()(inputs)["image"] - expected).abs().max())
    check_difference(graph, "float32", difference)
    with atomic_path(file) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that share memory, which these do not
        torch.export.save(program, temporary)
    return difference


def _check_device(cascade: Cascade) -> None:
    if cascade.compute.device.type != "cpu":
        raise LapganError(
            f"export: the cascade is on {cascade.compute.device}; load it with "
            'choose_compute("cpu", "float32").'
        )


def _any_number(inputs: Inputs) -> dict[str, dict[str, dict[int, Any]]]:
    """Returns the shapes of a graph's inputs with any number of images."""
    number = torch.export.Dim("n")
    return {"inputs": {name: {0: number} for name in inputs}}


def export_graph(graph: Graph, values: Inputs) -> "ModelProto":
    """Returns a graph as an ONNX model in float32, for any number of images.

    Args:
        graph: what to export.
        values: inputs from `make_inputs`, with which it is traced.
    """
    with requires("export", "exporting ONNX graphs"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    inputs = graph.inputs_of(values)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names of axes and the exporter's own parts
        # Constants that are kept are computed now, as numbers and not as symbols.
        outputs = list(graph.module(inputs))
        program = torch.onnx.export(
            graph.module, (), kwargs={"inputs": inputs}, input_names=list(inputs),
            output_names=outputs, dynamic_shapes=_any_number(inputs), opset_version=OPSET,
            dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _write_graph(
    graph: Graph, exported: "ModelProto", form: Form, folder: Path, checked: Inputs
) -> dict[str, Any]:
    file = folder / form / f"{graph.name}.onnx"
    file.parent.mkdir(exist_ok=True)
    content = store_as(exported, form).SerializeToString()
    file.write_bytes(content)
    difference = measure_difference(graph, file, checked)
    check_difference(graph, form, difference)
    return {
        "graph": graph.name,
        "form": form,
        "file": f"{form}/{graph.name}.onnx",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": {value.name: _shape_of(value) for value in exported.graph.input},
        "outputs": {value.name: _shape_of(value) for value in exported.graph.output},
        "largest_difference": difference,
    }


def _shape_of(value: Any) -> list[int]:
    return [d.dim_value if not d.dim_param else -1 for d in value.type.tensor_type.shape.dim]
