"""Commands that take a model elsewhere: graphs for other runtimes, and a page for browsers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import ModelPath, console
from lapgan.errors import LapganError

__all__ = ["demo", "export"]


def export(
    model: ModelPath,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for ONNX graphs and their manifest."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            help="How ONNX weights are stored: float32 (default), float16 or int8; repeatable."
        ),
    ] = None,
    torch: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .pt2 file for a program of torch.export."),
    ] = None,
) -> None:
    """Write a trained model for other runtimes, checked against PyTorch."""
    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.export import export_onnx, export_torch

    if onnx is None and torch is None:
        raise LapganError("nothing to write; give --onnx DIR, or --torch FILE.pt2, or both.")
    cascade = Cascade.load(model, choose_compute("cpu", "float32"))
    if onnx is not None:
        manifest = export_onnx(cascade, onnx, model.stem, form or ["float32"])  # type: ignore[arg-type]
        console.print(f"{'file':34} {'MiB':>7}  largest difference from PyTorch, gray levels")
        for entry in manifest["graphs"]:
            gray = 127.5 * entry["largest_difference"]
            console.print(f"{entry['file']:34} {entry['bytes'] / 2**20:7.2f}  {gray:.2g}")
        console.print(f"wrote {escape(str(onnx))}")
    if torch is not None:
        difference = export_torch(cascade, torch)
        console.print(
            f"wrote {escape(str(torch))}; largest difference {127.5 * difference:.2g} gray levels"
        )


def demo(
    model: ModelPath,
    static: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the page to a new folder, for any web server."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Serve the page at this port; 0 for any.")
    ] = 8000,
    form: Annotated[
        str, typer.Option(help="How weights are stored: int8 (smallest), float16 or float32.")
    ] = "int8",
) -> None:
    """Run a trained model in the browser: write the page, or serve it on this machine."""
    import tempfile

    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.demo import serve_site, write_site

    cascade = Cascade.load(model, choose_compute("cpu", "float32"))
    console.print("exporting the model ...")
    with tempfile.TemporaryDirectory(prefix="lapgan-demo-") as temporary:
        folder = static or Path(temporary) / "site"
        size = write_site(cascade, folder, model.stem, form)  # type: ignore[arg-type]
        console.print(f"the page downloads {size / 2**20:.1f} MiB")
        if static is not None:
            console.print(
                f"wrote {escape(str(static))}; look at it with: "
                f"python -m http.server --directory {escape(str(static))}"
            )
        else:
            serve_site(folder, port)
