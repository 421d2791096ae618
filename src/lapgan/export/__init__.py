"""Cascades as graphs of other runtimes: ONNX, and programs of `torch.export`.

A folder of ONNX graphs has a `manifest.json` and, per form, these files:

- `level-SIZE.onnx`: one level, from noise and the coarser image to the image of this level;
- `cascade.onnx`: all levels, from noise, labels and, for some images, a coarse image to begin with;
- `pyramid.onnx`: the pyramid's operator d(.), from images to their coarser levels.

Noise is an input of every graph, so that equal inputs give equal images in every runtime. The
number of images may differ from call to call.
"""

from lapgan.export.forms import FORMS, Form
from lapgan.export.writing import export_onnx, export_torch

__all__ = ["FORMS", "Form", "export_onnx", "export_torch"]
