"""The command that generates images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import BestOf, Device, ModelPath, Precision, Seed, console

__all__ = ["sample"]


def sample(
    model: ModelPath,
    out: Annotated[
        Path, typer.Option(help="What to write: a .png sheet, an .npz file, or a folder of PNGs.")
    ],
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, max=10_000_000, help="How many images.")
    ] = 64,
    seed: Seed = 0,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Only this class, or its index; repeatable."),
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Show every level beside its residual (.png only).")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Refine this coarse image, as n samples of it, of all classes unless --class "
            "names some.",
        ),
    ] = None,
    best_of: BestOf = 1,
    upscale: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="FACTOR",
            help="Apply the finest level again, to images 2, 4, ... times as large.",
        ),
    ] = 1,
    zoom: Annotated[int, typer.Option(min=1, max=16, help="Enlarge the sheet.")] = 1,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Generate images from noise, or from a given coarse image.

    The processes of torchrun share the work, and the first of them writes; see docs/scaling.md.
    """
    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.distributed import join_ranks, main_rank_first, share_work, wait_for_ranks
    from lapgan.writing import check_output, read_coarse_image, write_chain, write_images

    with join_ranks(device) as ranks:
        with main_rank_first():
            if ranks.is_main:
                check_output(out, chain=chain)
            cascade = Cascade.load(model, choose_compute(device, precision))
            cascade = cascade.best_of(best_of).upscale(upscale)
            start = None if from_ is None else read_coarse_image(from_).expand(n, -1, -1, -1)
            labels = cascade.labels(n, class_ or ())
        with share_work():
            if ranks.is_main:
                write = write_chain if chain else write_images
                write(cascade, out, n, seed=seed, labels=labels, start=start, zoom=zoom)
            elif not chain:
                for _ in cascade.stream(n, seed, labels, start):
                    pass  # the first rank has these images too, and writes them
        wait_for_ranks()
    console.print(f"wrote {escape(str(out))}")
