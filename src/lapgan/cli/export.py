"""Commands that take a model elsewhere: graphs for other runtimes, and a page for browsers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from lapgan.cli.options import Json, ModelPath, console, print_json, quote
from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.cascade import Cascade
    from lapgan.data import Images
    from lapgan.export import Form

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
    json: Json = False,
) -> None:
    """Write a trained model for other runtimes, checked against PyTorch."""
    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.export import export_onnx, export_torch

    if onnx is None and torch is None:
        raise LapganError("nothing to write; give --onnx DIR, or --torch FILE.pt2, or both.")
    cascade = Cascade.load(model, choose_compute("cpu", "float32"))
    manifest = difference = None
    if onnx is not None:
        forms = cast("list[Form]", form or ["float32"])
        manifest = export_onnx(cascade, onnx, model.stem, forms)
    if torch is not None:
        difference = export_torch(cascade, torch)
    if json:
        print_json({"onnx": manifest, "torch": {"largest_difference": difference}})
        return
    if manifest is not None:
        _print_graphs(manifest)
        console.print(f"wrote {escape(str(onnx))}")
    if difference is not None:
        gray = 127.5 * difference
        console.print(f"wrote {escape(str(torch))}; largest difference {gray:.2g} gray levels")


def _print_graphs(manifest: dict[str, Any]) -> None:
    console.print(f"{'file':34} {'MiB':>7}  largest difference from PyTorch, gray levels")
    for entry in manifest["graphs"]:
        gray = 127.5 * entry["largest_difference"]
        console.print(f"{entry['file']:34} {entry['bytes'] / 2**20:7.2f}  {gray:.2g}")


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
        str | None,
        typer.Option(
            help="How weights are stored: int8, float16 or float32; int8 by default where that "
            "changes nothing, else float16."
        ),
    ] = None,
    neighbors: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Search this data, which the model was trained on, for the images nearest to a "
            "sample. They become part of the page: give only what may be published.",
        ),
    ] = None,
    neighbor_images: Annotated[
        int | None,
        typer.Option(min=2, help="With --neighbors: how many of its images, instead of 10,000."),
    ] = None,
) -> None:
    """Run a trained model in the browser: write the page, or serve it on this machine."""
    import tempfile

    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.demo import DEFAULT_COUNT, serve_site, write_site

    if neighbors is None and neighbor_images is not None:
        raise LapganError("--neighbor-images: give --neighbors DATA too, which they are images of.")
    cascade = Cascade.load(model, choose_compute("cpu", "float32"))
    count = neighbor_images or DEFAULT_COUNT
    training = None if neighbors is None else _open_neighbors(neighbors, cascade, count)
    console.print("exporting the model ...")
    with tempfile.TemporaryDirectory(prefix="lapgan-demo-") as temporary:
        folder = static or Path(temporary) / "site"
        chosen = cast("Form | None", form)
        size = write_site(cascade, folder, model.stem, chosen, training, count)
        console.print(f"the page downloads {size / 2**20:.1f} MiB")
        if static is not None:
            console.print(
                f"wrote {escape(str(static))}; look at it with: "
                f"python -m http.server --directory {escape(quote(static))}"
            )
        else:
            serve_site(folder, port)


def _open_neighbors(data: str, cascade: "Cascade", count: int) -> "Images":
    """Opens the training images of a model, and says that they become part of the page."""
    from lapgan.data import hold_out_images, open_images

    images, _ = hold_out_images(open_images(data), cascade.recipe.data.hold_out)
    console.print(
        f"{min(count, len(images)):,} of {len(images):,} training images of {escape(images.name)} "
        "become part of the page: whoever can open it can copy them."
    )
    return images
