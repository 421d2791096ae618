"""A live page on one run: curves and sheets of samples, read from its folder and never written.

The server is Python's own and needs no extra package. It answers GET and HEAD alone, from this
machine alone unless another address is asked for, and gives out nothing but the page, the run's
figures and its sheets.
"""

from lapgan.watch.server import make_server, serve

__all__ = ["make_server", "serve"]
