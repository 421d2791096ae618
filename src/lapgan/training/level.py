"""The training of one level, from data to weights."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lapgan.compute import Compute
from lapgan.data import Batches, Images, Normalisation
from lapgan.errors import LapganError
from lapgan.losses import minimax_generator_loss, nonsaturating_generator_loss
from lapgan.pictures import write_png, zoomed
from lapgan.pyramid import gaussian_pyramid, upsample
from lapgan.recipe import Recipe
from lapgan.training.ema import update_average
from lapgan.training.log import Meter, Record, Watch, append_record, rewind_records
from lapgan.training.optimiser import make_optimiser, set_schedule
from lapgan.training.state import LevelState, NotFiniteError
from lapgan.training.step import Examples, update_discriminator, update_generator
from lapgan.weights import LEVEL_FILE, Weights, write_weights

__all__ = ["Budget", "Intervals", "LevelJob", "Listener", "train_level", "training_batches"]

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"
SHEET_EXAMPLES = 16
GENERATOR_LOSSES = {
    "non-saturating": nonsaturating_generator_loss,
    "minimax": minimax_generator_loss,
}


@dataclass(frozen=True)
class Budget:
    """When a level has been trained enough: at the first of the two, counted from its beginning.

    Args:
        images: examples seen.
        seconds: time spent in training.
    """

    images: int
    seconds: float = math.inf


@dataclass(frozen=True)
class Intervals:
    """How often a level reports, in seconds of training.

    Args:
        log: between lines of the log.
        checkpoint: between checkpoints; what a killed process loses at most.
        first_sheet: before the first sheet of samples.
        sheet: between sheets after it.
    """

    log: float = 10.0
    checkpoint: float = 60.0
    first_sheet: float = 60.0
    sheet: float = 300.0


class Listener:
    """What a training run tells while it goes; this one hears nothing.

    A plain object with three callbacks, so that a terminal, a queue between processes and a
    TensorBoard writer can listen to the same loop.
    """

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """A level begins, or goes on after `images` examples and `seconds`."""

    def recorded(self, level: str, record: Record) -> None:
        """A line was logged."""

    def warned(self, message: str) -> None:
        """Something looks wrong."""


@dataclass(frozen=True)
class LevelJob:
    """All that the training of one level needs.

    Args:
        recipe: the recipe of the whole cascade.
        k: which level, 0 the finest.
        images: the training images.
        normalisation: of the finest level.
        folder: the level's own folder.
        budget: when to stop.
        seed: of initial weights, order and noise.
        compute: where and in which precision.
        intervals: how often to report.
    """

    recipe: Recipe
    k: int
    images: Images
    normalisation: Normalisation
    folder: Path
    budget: Budget
    seed: int
    compute: Compute
    intervals: Intervals = field(default_factory=Intervals)

    @property
    def name(self) -> str:
        """The level's size, as the recipe writes it."""
        return list(self.recipe.levels)[self.k]

    @property
    def num_classes(self) -> int:
        """How many classes condition the level; 0 for none."""
        return len(self.images.class_names) if self.recipe.data.classes else 0


def train_level(
    job: LevelJob, listener: Listener, stopped: Callable[[], bool] = lambda: False
) -> LevelState:
    """Trains one level until its budget is spent, going on from its checkpoint if there is one.

    Args:
        job: what to train.
        listener: hears of progress.
        stopped: asked after each step; when it says yes, a checkpoint is written and the state
            returned.

    Raises:
        LapganError: training diverged (the last good checkpoint is kept), a file cannot be
            written, or a checkpoint cannot be read.
    """
    with torch.random.fork_rng(devices=[]):
        state = initial_state(job)
        if (job.folder / STATE_FILE).exists():
            state.load(job.folder / STATE_FILE)
        rewind_records(job.folder / LOG_FILE, state.images_seen)
        listener.started(job.name, state.images_seen, state.seconds, job.budget)
        _loop(job, state, listener, stopped)
    return state


def _loop(
    job: LevelJob, state: LevelState, listener: Listener, stopped: Callable[[], bool]
) -> None:
    batches = training_batches(job.recipe, job.images, job.seed)
    every = job.intervals
    meter, watch = Meter(), Watch(job.name)
    begun = time.monotonic() - state.seconds
    logged = saved = state.seconds
    logged_images = state.images_seen
    next_sheet = state.seconds + every.first_sheet
    while not (done := _spent(job.budget, state)) or meter.steps:
        done = done or stopped()
        if meter.steps and (done or state.seconds - logged >= every.log):
            rate = (state.images_seen - logged_images) / (state.seconds - logged)
            record = _record(job, state, listener, meter.take(), rate)
            for message in watch.warnings(record):
                listener.warned(message)
            logged, logged_images = state.seconds, state.images_seen
        if done or state.seconds - saved >= every.checkpoint:
            _checkpoint(job, state)
            saved = time.monotonic() - begun
        if done or state.seconds >= next_sheet:
            draw_sheet(job, state, batches)
            next_sheet = state.seconds + every.sheet
        if done:
            return
        meter.add(**training_step(job, state, batches))
        state.seconds = time.monotonic() - begun


def training_step(job: LevelJob, state: LevelState, batches: Batches) -> dict[str, float]:
    training = job.recipe.training
    examples = level_examples(job, batches, state.images_seen)
    epochs = state.images_seen / batches.epoch
    for optimiser in (state.discriminator_optimiser, state.generator_optimiser):
        set_schedule(optimiser, training.optimiser, epochs)
    with job.compute.autocast():
        judgement = update_discriminator(
            state.generator, state.discriminator, state.discriminator_optimiser, examples
        )
        loss_g, fake = update_generator(
            state.generator,
            state.discriminator,
            state.generator_optimiser,
            GENERATOR_LOSSES[training.objective],
            examples,
        )
    figures = {
        "loss_d": judgement.loss.item(),
        "loss_g": loss_g.item(),
        "real_accuracy": judgement.real_accuracy.item(),
        "fake_accuracy": judgement.fake_accuracy.item(),
        "spread": _spread(fake=fake, real=examples.high),
    }
    if not all(math.isfinite(value) for value in figures.values()):
        raise _diverged(job, state)
    state.images_seen += training.batch
    update_average(
        state.average,
        state.generator,
        training.batch,
        state.images_seen,
        training.ema_half_life,
    )
    return figures


def level_examples(job: LevelJob, batches: Batches, images_seen: int) -> Examples:
    """Makes the examples that follow `images_seen`, and seeds all that is random in the step."""
    pixels, labels = batches.at(images_seen)
    generator = torch.Generator().manual_seed(_seed(job, images_seen))
    # Dropout draws from the global generator, which the caller has forked.
    torch.default_generator.manual_seed(_seed(job, images_seen) ^ 1)
    return make_examples(job, pixels, labels, generator)


def make_examples(
    job: LevelJob, pixels: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Examples:
    """Turns pixels (B, 3, H, W) into one level's examples: l_k = u(I_{k+1}), h_k = I_k - l_k."""
    level, size, compute = job.recipe.level(job.k), job.recipe.sizes[job.k], job.compute
    operator, deepest = job.recipe.pyramid.operator, job.k + 2
    images = gaussian_pyramid(
        job.normalisation.normalise(pixels), job.recipe.sizes[:deepest], operator
    )
    image = images[job.k]
    low = upsample(images[job.k + 1], size, operator) if len(images) > job.k + 1 else None
    high = image if low is None else image - low
    z = level.noise.build().sample(len(pixels), size, generator)
    return Examples(
        high=_placed(high, compute),
        low=None if low is None else _placed(low, compute),
        z=_placed(z, compute),
        label=labels.to(compute.device) if labels is not None and job.num_classes else None,
    )


def draw_sheet(job: LevelJob, state: LevelState, batches: Batches) -> None:
    """Writes a sheet of samples: real, low-pass and generated images in columns.

    At the coarsest level, generated images only.
    """
    path = job.folder / "samples" / f"{state.images_seen // 1000:07d}k.png"
    pixels, labels = batches.at(0)
    count = min(SHEET_EXAMPLES, len(pixels))
    generator = torch.Generator().manual_seed(_seed(job, 0))
    examples = make_examples(
        job, pixels[:count], None if labels is None else labels[:count], generator
    )
    with torch.no_grad(), job.compute.autocast():
        fake = state.average.eval()(examples.low, examples.z, examples.label).float()
    rows = [fake] if examples.low is None else _rows(examples, fake, examples.low)
    shown = torch.cat([zoomed(job.normalisation.denormalise(row.cpu()), job.recipe.sizes[0])
                       for row in rows])  # fmt: skip
    write_png(path, shown, columns=8 if len(rows) == 1 else count, zoom=2)


def _rows(examples: Examples, fake: Tensor, low: Tensor) -> list[Tensor]:
    return [low + examples.high, low, low + fake]


def initial_state(job: LevelJob) -> LevelState:
    torch.default_generator.manual_seed(_seed(job, -1))
    level, size = job.recipe.level(job.k), job.recipe.sizes[job.k]
    generator = _placed(level.build_generator(size, job.num_classes), job.compute)
    discriminator = _placed(level.discriminator.build(size, job.num_classes), job.compute)
    average = copy.deepcopy(generator).requires_grad_(False)
    recipe = job.recipe.training.optimiser
    return LevelState(
        generator=generator,
        discriminator=discriminator,
        average=average,
        generator_optimiser=make_optimiser(generator.parameters(), recipe),
        discriminator_optimiser=make_optimiser(discriminator.parameters(), recipe),
    )


def training_batches(recipe: Recipe, images: Images, seed: int) -> Batches:
    """Returns the minibatches of a recipe; a LapganError if the images do not fit it."""
    data = recipe.data
    return Batches(
        images,
        recipe.sizes[0],
        recipe.training.batch,
        seed,
        corners=data.crop == "corners",
        flip=data.flip,
    )


def _record(
    job: LevelJob, state: LevelState, listener: Listener, means: dict[str, float], rate: float
) -> Record:
    record = Record(
        images_seen=state.images_seen,
        seconds=state.seconds,
        images_per_second=rate,
        learning_rate=state.generator_optimiser.param_groups[0]["lr"],
        **means,
    )
    append_record(job.folder / LOG_FILE, record)
    listener.recorded(job.name, record)
    return record


def _checkpoint(job: LevelJob, state: LevelState) -> None:
    try:
        state.save(job.folder / STATE_FILE)
    except NotFiniteError as error:
        raise _diverged(job, state) from error
    tensors = {
        f"levels.{job.name}.generator.{name}": tensor
        for name, tensor in state.average.state_dict().items()
    }
    tensors["normalisation.mean"] = job.normalisation.mean
    tensors["normalisation.std"] = job.normalisation.std
    class_names = job.images.class_names if job.recipe.data.classes else ()
    figures = {job.name: _figures(job, state)}
    write_weights(job.folder / LEVEL_FILE, Weights(tensors, job.recipe, class_names, figures))


def _figures(job: LevelJob, state: LevelState) -> dict[str, Any]:
    return {
        "images_seen": state.images_seen,
        "seconds": round(state.seconds, 1),
        "seed": job.seed,
        "data": {"name": job.images.name, "fingerprint": job.images.fingerprint},
        "compute": str(job.compute),
        "torch": torch.__version__,
    }


def _diverged(job: LevelJob, state: LevelState) -> LapganError:
    kept = job.folder / STATE_FILE
    where = f"The last good checkpoint is kept in {kept}" if kept.exists() else "No checkpoint yet"
    return LapganError(
        f"level {job.name}: training diverged after {state.images_seen} images: a loss or weight "
        f"is infinite or not a number. {where}. Lower training.optimiser.learning_rate (with a new "
        "run folder) or use another seed."
    )


def _spent(budget: Budget, state: LevelState) -> bool:
    return state.images_seen >= budget.images or state.seconds >= budget.seconds


def _spread(*, fake: Tensor, real: Tensor) -> float:
    """Returns the standard deviation among generated examples over that among real ones."""
    ratio = fake.float().std(dim=0).mean() / real.float().std(dim=0).mean().clamp(min=1e-8)
    return ratio.item()


_Placed = TypeVar("_Placed", Tensor, nn.Module)


def _placed(x: _Placed, compute: Compute) -> _Placed:
    if isinstance(x, Tensor) and x.dim() != 4:
        return x.to(compute.device)
    return x.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _seed(job: LevelJob, images_seen: int) -> int:
    """Returns the seed of the step that follows `images_seen`; -1 stands for the first weights."""
    key = (job.seed, *job.recipe.sizes[job.k], images_seen + 1)
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
