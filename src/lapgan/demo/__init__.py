"""A page that runs a cascade in the browser, as static files.

Graphs of `lapgan.export` are computed by ONNX Runtime Web, which comes with the package in
`static/ort`; `static/` is the page itself.
"""

from lapgan.demo.neighbors import DEFAULT_COUNT
from lapgan.demo.serve import serve_site
from lapgan.demo.site import write_site

__all__ = ["DEFAULT_COUNT", "serve_site", "write_site"]
