"""Sheets of samples, drawn while a level trains."""

import torch
from torch import Tensor

from lapgan.batches import Batches
from lapgan.pictures import write_png, zoomed
from lapgan.training.examples import make_examples
from lapgan.training.job import LevelTask
from lapgan.training.state import LevelState
from lapgan.training.step import Examples

__all__ = ["draw_sheet"]

_EXAMPLES = 16


def draw_sheet(job: LevelTask, state: LevelState, batches: Batches) -> None:
    """Writes a sheet of samples, always of the same examples and the same noise.

    One column an example: real, low-pass, generated. At the coarsest level, generated images only.
    """
    examples = _fixed_examples(job, batches)
    with torch.no_grad(), job.compute.autocast():
        fake = state.average.eval()(examples.low, examples.z, examples.label).float()
    low, columns = examples.low, len(examples)
    rows = [fake] if low is None else [low + examples.high, low, low + fake]
    finest = job.recipe.sizes[0]
    shown = [zoomed(job.normalization.denormalize(row.cpu()), finest) for row in rows]
    path = job.folder / "samples" / f"{state.images_seen // 1000:07d}k.png"
    write_png(path, torch.cat(shown), columns=columns // 2 if low is None else columns, zoom=2)


def _fixed_examples(job: LevelTask, batches: Batches) -> Examples:
    pixels, labels = batches.at(0)
    chosen: Tensor | None = None if labels is None else labels[:_EXAMPLES]
    generator = torch.Generator().manual_seed(job.seed_after(0))
    return make_examples(job, pixels[:_EXAMPLES], chosen, generator)
