"""Commands about data: prepare pictures, bound their entropy."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import (
    Json,
    Seed,
    SkipInvalid,
    complete_recipe,
    console,
    on_invalid,
    print_json,
)
from lapgan.errors import LapganError, requires
from lapgan.files import check_writable

if TYPE_CHECKING:
    from lapgan.evaluation.metrics.entropy.levels import EntropyConfig
    from lapgan.sizes import Size

__all__ = ["cache", "entropy", "prepare"]


def prepare(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Pictures: a folder, parquet, or hub:OWNER/NAME.")
    ],
    out: Annotated[Path | None, typer.Option(help="The folder of pictures to make.")] = None,
    shards: Annotated[
        Path | None,
        typer.Option(help="Instead: the folder of tar shards to make, for --data stream:FOLDER."),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures per shard.")] = 1000,
    size: Annotated[
        str, typer.Option(help="Size of the new pictures: a side, or HEIGHTxWIDTH such as 48x64.")
    ] = "64",
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, help="Only the first n pictures.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Part of the data: train, test, or a name of its own.")
    ] = "train",
    hold_out: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Keep N pictures, drawn at random, from training, to evaluate."
        ),
    ] = 0,
    skip_invalid: SkipInvalid = False,
) -> None:
    """Crop and reduce your pictures to one size, as training needs them."""
    from lapgan.data import prepare_images, write_shards

    if (out is None) == (shards is None):
        raise LapganError("prepare: give either --out FOLDER or --shards FOLDER.")
    if shards is not None:
        count = write_shards(
            data,
            shards,
            _picture_size(size),
            split=split,
            count=n,
            hold_out=hold_out,
            images_per_shard=shard_size,
            on_invalid=on_invalid(skip_invalid),
        )
        files = len(list(shards.glob("*.tar")))
        console.print(f"wrote {count:,} pictures in {files:,} shards to {escape(str(shards))}")
        return
    assert out is not None
    count = prepare_images(
        data,
        out,
        _picture_size(size),
        split=split,
        count=n,
        hold_out=hold_out,
        on_invalid=on_invalid(skip_invalid),
    )
    test = sum(1 for _ in (out / "test").rglob("*.png")) if hold_out else 0
    parts = f", {test:,} of them in test" if hold_out else ""
    console.print(f"wrote {count:,} pictures{parts} to {escape(str(out))}")


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them.")] = False,
    json: Json = False,
) -> None:
    """List the decoded images that are kept on the disk, or remove them.

    What is removed is decoded again when it is needed.
    """
    from lapgan.data import default_cache
    from lapgan.data.stored import clear_stored, list_stored

    folder = default_cache()
    entries = clear_stored(folder) if clear else list_stored(folder)
    if json:
        stored = [{**asdict(entry), "path": str(entry.path)} for entry in entries]
        print_json({"folder": str(folder), "removed": clear, "entries": stored})
        return
    for entry in entries:
        count, *_, height, width = entry.shape or (0, 0, 0)
        name = escape(entry.name or entry.path.name)
        console.print(f"{entry.size / 2**20:10,.1f} MiB  {name}, {count:,} images {height}x{width}")
    total = sum(entry.size for entry in entries) / 2**20
    console.print(
        f"{total:10,.1f} MiB  {'removed from' if clear else 'in'} {escape(str(folder))}"
        + ("" if clear else " (remove them with --clear)")
    )


def _picture_size(text: str) -> "Size":
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) >= 2 for side in sides):
        raise LapganError(
            f"--size {text}: expected a side of at least 2 pixels, such as 64, or HEIGHTxWIDTH, "
            "such as 48x64."
        )
    return int(sides[0]), int(sides[-1])


def entropy(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A data source; a part is held out if it has no test images."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Take sizes, operator and noise from this recipe.", autocompletion=complete_recipe
        ),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="The levels instead, finest first: 32,16,8,4.")
    ] = None,
    operator: Annotated[
        str, typer.Option(help="With --sizes: burt-adelson, bilinear, block-mean, area-linear.")
    ] = "block-mean",
    minutes: Annotated[
        float,
        typer.Option(
            min=0, help="CPU minutes for the finest level; coarser ones half, then a quarter."
        ),
    ] = 4.0,
    n: Annotated[int, typer.Option("--n", "-n", min=2, help="How many test images.")] = 1000,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .json report; an interrupted one continues.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A figure: .svg, .png or .pdf.")] = None,
) -> None:
    """Bound the entropy of each level given the next coarser one, in bits per pixel."""
    with requires("eval", "`lapgan entropy`"):
        from lapgan.data import NoSplitError, hold_out_images, open_images
        from lapgan.evaluation.metrics.entropy.levels import measure_entropy
        from lapgan.evaluation.metrics.entropy.views import entropy_table, write_entropy_plot

    config = _entropy_config(recipe, sizes, operator, minutes, n, seed)
    for path in (out, plot):
        if path is not None:
            check_writable(path)
    train = open_images(data)
    try:
        test = open_images(data, split="test")
    except NoSplitError:
        train, test = hold_out_images(train, min(n, len(train) // 4))
    report = measure_entropy(train, test, config, out)
    console.print(entropy_table(report))
    if plot is not None:
        write_entropy_plot(report, plot)


def _entropy_config(
    recipe: str | None, sizes: str | None, operator: str, minutes: float, n: int, seed: int
) -> "EntropyConfig":
    from lapgan.evaluation.metrics.entropy.levels import EntropyConfig
    from lapgan.pyramid import OPERATORS
    from lapgan.recipe import read_recipe
    from lapgan.sizes import parse_size

    if (recipe is None) == (sizes is None):
        raise LapganError("entropy: give either --recipe NAME or --sizes such as 32,16,8,4.")
    if recipe is not None:
        return EntropyConfig.of_recipe(read_recipe(recipe), minutes, n, seed)
    for name in OPERATORS:
        if operator == name:
            levels = tuple(parse_size(size.strip()) for size in (sizes or "").split(","))
            return EntropyConfig(levels, name, minutes, n, seed)
    raise LapganError(f"--operator {operator}: expected one of {', '.join(OPERATORS)}.")
