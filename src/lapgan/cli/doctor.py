"""The command that looks at the machine before anything is spent."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lapgan.cli.options import Device, Json, Precision, complete_recipe, console, print_json

if TYPE_CHECKING:
    from lapgan.compute import Compute
    from lapgan.training.speed import LevelSpeed

__all__ = ["doctor"]

_GIB = 2**30


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Measure how fast its levels train here.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long to measure each level, after a first step.")
    ] = 2.0,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> None:
    """Show what this machine offers, and what a recipe would cost on it.

    With a recipe some steps of each level are made on random images, in memory; nothing is written.
    """
    from lapgan.compute import choose_compute
    from lapgan.recipe import read_recipe
    from lapgan.training.speed import measure_speeds

    read = None if recipe is None else read_recipe(recipe, set_ or ())
    compute = choose_compute(device, precision)
    state = _examine(compute)
    speeds = iter(()) if read is None else measure_speeds(read, compute, seconds)
    if json:
        levels = [{**asdict(speed), "minutes": round(speed.minutes, 2)} for speed in speeds]
        print_json({**state, "recipe": read and read.name, "levels": levels})
        return
    for line in (*_lines(state), *_speed_lines(speeds)):
        console.print(escape(line))


def _examine(compute: "Compute") -> dict[str, Any]:
    """Returns what the machine and the installation offer, as plain data."""
    import torch

    from lapgan.data import default_cache
    from lapgan.machine import count_cores, free_disk, list_extras, list_versions, memory

    cache, total = default_cache(), memory()
    properties = (
        torch.cuda.get_device_properties(compute.device) if compute.device.type == "cuda" else None
    )
    return {
        # PyTorch's own version says which CUDA it was built for.
        "versions": {**list_versions(), "torch": torch.__version__},
        "extras": {extra.name: list(extra.missing) for extra in list_extras()},
        "device": str(compute.device),
        "device_name": None if properties is None else properties.name,
        "device_memory_bytes": None if properties is None else properties.total_memory,
        "precision": compute.precision,
        "precision_reason": compute.reason,
        "threads": torch.get_num_threads(),
        "cores": count_cores(),
        "memory_bytes": None if total is None else total[0],
        "free_memory_bytes": None if total is None else total[1],
        "cache": str(cache),
        "cache_free_bytes": free_disk(cache),
        "data_folder": os.environ.get("LAPGAN_DATA"),
    }


def _lines(state: dict[str, Any]) -> Iterator[str]:
    versions = state["versions"]
    yield f"lapgan {versions['lapgan']}, Python {versions['python']}, {versions['system']}"
    packages = {k: v for k, v in versions.items() if k not in ("lapgan", "python", "system")}
    yield "packages   " + ", ".join(f"{name} {number}" for name, number in packages.items())
    name = f" ({state['device_name']})" if state["device_name"] else ""
    yield f"device     {state['device']}{name}"
    yield f"precision  {state['precision']} ({state['precision_reason']})"
    yield f"threads    {state['threads']}, on {state['cores']} cores"
    if state["memory_bytes"] is not None:
        total, free = state["memory_bytes"] / _GIB, state["free_memory_bytes"] / _GIB
        yield f"memory     {total:.1f} GiB, {free:.1f} GiB of it free"
    if state["device_memory_bytes"] is not None:
        yield f"GPU memory {state['device_memory_bytes'] / _GIB:.1f} GiB"
    yield f"cache      {state['cache']}, {state['cache_free_bytes'] / _GIB:.1f} GiB free"
    yield f"data       LAPGAN_DATA is {state['data_folder'] or 'not set'}"
    for extra, missing in state["extras"].items():
        lacks = f"lacks {', '.join(missing)}: pip install -e '.[{extra}]'"
        yield f"extra      {extra} {lacks if missing else 'is there'}"


def _speed_lines(speeds: "Iterator[LevelSpeed]") -> Iterator[str]:
    total = 0.0
    for speed in speeds:
        total += speed.minutes
        taken = speed.memory_bytes
        memory = "" if taken is None else f", {taken / _GIB:.1f} GiB of the GPU"
        yield (
            f"level {speed.name}: G {speed.generator_parameters:,} and "
            f"D {speed.discriminator_parameters:,} parameters, "
            f"{speed.images_per_second:,.0f} images/s, {speed.minutes:,.1f} minutes for "
            f"{speed.images:,} images{memory}"
        )
    if total:
        yield f"all levels, one after another: {total:,.1f} minutes; --minutes limits them"
