"""The training of one level, from data to weights."""

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lapgan.batches import Batches
from lapgan.errors import LapganError
from lapgan.losses import minimax_generator_loss, nonsaturating_generator_loss
from lapgan.models.patch import DataInitialized
from lapgan.training.ema import update_average
from lapgan.training.examples import level_examples, real_examples, training_batches
from lapgan.training.folder import LOG_FILE, STATE_FILE
from lapgan.training.job import LevelTask
from lapgan.training.listener import Callback
from lapgan.training.log import (
    AnyRecord,
    ClassifierRecord,
    Meter,
    Record,
    Watch,
    append_record,
    rewind_records,
    training_figures,
)
from lapgan.training.optimizers import make_optimizer, set_schedule
from lapgan.training.relativistic import update_pairs
from lapgan.training.sheets import draw_sheet
from lapgan.training.state import LevelState, NotFiniteError
from lapgan.training.step import (
    DiscriminatorStats,
    Examples,
    update_discriminator,
    update_generator,
)
from lapgan.training.study import study_share, study_step
from lapgan.weights import LEVEL_FILE, Weights, generator_tensors, write_weights

__all__ = ["initial_state", "train_level", "training_step"]

# Enough for the covariance of the components of an 8x8 image, of which there are 192.
FIT_EXAMPLES = 4096
GENERATOR_LOSSES = {
    "non-saturating": nonsaturating_generator_loss,
    "minimax": minimax_generator_loss,
}


def train_level(
    job: LevelTask, listener: Callback, stopped: Callable[[], bool] = lambda: False
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
    devices = [job.compute.device] if job.compute.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        state = initial_state(job)
        if (job.folder / STATE_FILE).exists():
            state.load(job.folder / STATE_FILE)
        rewind_records(job.folder / LOG_FILE, state.images_seen)
        listener.started(job.name, state.images_seen, state.seconds, job.budget)
        _loop(job, state, listener, stopped)
    return state


def _loop(
    job: LevelTask, state: LevelState, listener: Callback, stopped: Callable[[], bool]
) -> None:
    batches = training_batches(job.recipe, job.images, job.seed)
    every = job.intervals
    meter, watch = Meter(), Watch(job.name)
    begun = time.monotonic() - state.seconds
    logged = saved = state.seconds
    logged_images = state.images_seen
    next_sheet = state.seconds + every.first_sheet
    while not (done := _progress(job, state) >= 1) or meter.steps:
        done = done or stopped()
        turned = _of_study(meter.sums) != _studies(job, state)
        if meter.steps and (done or turned or state.seconds - logged >= every.log):
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


def training_step(job: LevelTask, state: LevelState, batches: Batches) -> dict[str, float]:
    """Updates D, G and the averaged weights once, and returns the figures of the step.

    Raises:
        LapganError: a figure is infinite or not a number.
    """
    progress, studied = _progress(job, state), study_share(job)
    if progress < studied:
        figures, images = study_step(job, state, batches, progress / studied)
    else:
        played = (progress - studied) / (1 - studied)
        figures, images = _game_step(job, state, batches, played)
    if not all(math.isfinite(value) for value in figures.values()):
        raise _diverged(job, state)
    state.images_seen += images
    if progress >= studied:
        half_life = job.recipe.training.ema_half_life
        update_average(state.average, state.generator, images, state.images_seen, half_life)
    return figures


def _game_step(
    job: LevelTask, state: LevelState, batches: Batches, progress: float
) -> tuple[dict[str, float], int]:
    """Updates D and G once, and returns the figures of the step and how many images it saw."""
    training = job.recipe.training
    examples = level_examples(job, batches, state.images_seen)
    epochs = state.images_seen / batches.epoch
    share = job.recipe.level(job.k).generator_rate
    set_schedule(state.discriminator_optimizer, training.optimiser, epochs, progress)
    set_schedule(state.generator_optimizer, training.optimiser, epochs, progress, share)
    with job.compute.autocast():
        judgement, loss_g, fake = _update(job, state, examples)
    figures = {
        "loss_d": judgement.loss.item(),
        "loss_g": loss_g.item(),
        "real_accuracy": judgement.real_accuracy.item(),
        "fake_accuracy": judgement.fake_accuracy.item(),
        "spread": _spread(fake=fake, real=examples.high),
    }
    return figures, training.batch


def _update(
    job: LevelTask, state: LevelState, examples: Examples
) -> tuple[DiscriminatorStats, Tensor, Tensor]:
    """Updates D and G; returns how D did, the loss of G, and what it generated."""
    training = job.recipe.training
    nets = (state.generator, state.discriminator)
    if training.objective == "relativistic":
        level, penalty = job.recipe.level(job.k), job.recipe.penalty(job.k)
        steps = state.images_seen // training.batch
        return update_pairs(
            *nets,
            state.generator_optimizer,
            state.discriminator_optimizer,
            examples,
            penalty if penalty is not None and steps % penalty.every == 0 else None,
            level.supervised,
            level.instance_noise,
            level.augment,
        )
    judgement = update_discriminator(*nets, state.discriminator_optimizer, examples)
    loss_g, fake = update_generator(
        *nets, state.generator_optimizer, GENERATOR_LOSSES[training.objective], examples
    )
    return judgement, loss_g, fake


def initial_state(job: LevelTask) -> LevelState:
    """Makes the state of a level before its first step, from seed and data alone."""
    job.compute.seed(job.seed_after(-1))
    level, size = job.recipe.level(job.k), job.recipe.sizes[job.k]
    generator = job.compute.place(level.build_generator(size, job.num_classes))
    discriminator = job.compute.place(level.discriminator.build(size, job.num_classes))
    _fit(job, generator, discriminator)
    average = copy.deepcopy(generator).requires_grad_(False)
    recipe = job.recipe.training.optimiser
    return LevelState(
        generator=generator,
        discriminator=discriminator,
        average=average,
        generator_optimizer=make_optimizer(generator.parameters(), recipe),
        discriminator_optimizer=make_optimizer(discriminator.parameters(), recipe),
    )


def _fit(job: LevelTask, *nets: nn.Module) -> None:
    """Fits nets that start from the data's statistics on the first examples of the run."""
    fitted = [net for net in nets if isinstance(net, DataInitialized)]
    if not fitted:
        return
    batches = training_batches(job.recipe, job.images, job.seed)
    examples = real_examples(job, batches, 0, FIT_EXAMPLES)
    for net in fitted:
        net.fit(examples.high, examples.low)


def _record(
    job: LevelTask, state: LevelState, listener: Callback, means: dict[str, float], rate: float
) -> AnyRecord:
    kind, optimizer = (
        (ClassifierRecord, state.discriminator_optimizer)
        if _of_study(means)
        else (Record, state.generator_optimizer)
    )
    record = kind(
        images_seen=state.images_seen,
        seconds=state.seconds,
        images_per_second=rate,
        learning_rate=optimizer.param_groups[0]["lr"],
        **means,
    )
    append_record(job.folder / LOG_FILE, record)
    listener.recorded(job.name, record)
    return record


def _checkpoint(job: LevelTask, state: LevelState) -> None:
    try:
        state.save(job.folder / STATE_FILE)
    except NotFiniteError as error:
        raise _diverged(job, state) from error
    tensors = generator_tensors(job.name, state.average)
    tensors["normalisation.mean"] = job.normalization.mean
    tensors["normalisation.std"] = job.normalization.std
    class_names = job.images.class_names if job.recipe.data.classes else ()
    spent = (state.images_seen, state.seconds)
    figures = {job.name: training_figures(*spent, job.seed, job.images, job.compute)}
    write_weights(job.folder / LEVEL_FILE, Weights(tensors, job.recipe, class_names, figures))


def _diverged(job: LevelTask, state: LevelState) -> LapganError:
    kept = job.folder / STATE_FILE
    where = f"The last good checkpoint is kept in {kept}" if kept.exists() else "No checkpoint yet"
    return LapganError(
        f"level {job.name}: training diverged after {state.images_seen} images: a loss or weight "
        f"is infinite or not a number. {where}. Lower training.optimiser.learning_rate (with a new "
        "run folder) or use another seed."
    )


def _progress(job: LevelTask, state: LevelState) -> float:
    """Returns the share of the budget that is spent."""
    return job.budget.spent(state.images_seen, state.seconds)


def _of_study(figures: dict[str, float]) -> bool:
    """Tells the figures of the study from those of the game."""
    return "loss_classifier" in figures


def _studies(job: LevelTask, state: LevelState) -> bool:
    return _progress(job, state) < study_share(job)


def _spread(*, fake: Tensor, real: Tensor) -> float:
    """Returns the standard deviation among generated examples over that among real ones."""
    ratio = fake.float().std(dim=0).mean() / real.float().std(dim=0).mean().clamp(min=1e-8)
    return ratio.item()
