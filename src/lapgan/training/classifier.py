"""The training of a run's classifier, by which `Cascade.best_of` chooses, on real images alone."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lapgan.batches import Batches
from lapgan.cascade import Cascade
from lapgan.compute import Compute, choose_compute
from lapgan.data import Images, OnInvalid, open_images
from lapgan.errors import LapganError
from lapgan.models.classifier import ImageClassifier
from lapgan.normalization import Normalization
from lapgan.pyramid import gaussian_pyramid
from lapgan.recipe import Adam, ClassifierRecipe, Recipe
from lapgan.seeds import seed_of
from lapgan.selection import Selector
from lapgan.training.examples import normalization_of, training_batches
from lapgan.training.folder import (
    LOG_FILE,
    STATE_FILE,
    assemble,
    check_images,
    locked,
    recipe_of,
)
from lapgan.training.job import Budget, Intervals
from lapgan.training.listener import Callback
from lapgan.training.log import (
    ClassifierRecord,
    Meter,
    append_record,
    rewind_records,
    training_figures,
)
from lapgan.training.optimizers import make_optimizer, set_schedule
from lapgan.training.signals import stop_signals
from lapgan.training.state import NotFiniteError, load_state, save_state
from lapgan.training.step import step
from lapgan.weights import (
    CLASSIFIER,
    LEVEL_FILE,
    Weights,
    classifier_tensors,
    read_weights,
    write_weights,
)

__all__ = ["ClassifierConfig", "held_out_accuracy", "train_classifier"]

_OPTIMIZER = Adam(learning_rate=2e-3, betas=(0.9, 0.99), decay="cosine")
_BATCH = 128
_FIT_EXAMPLES = 4096
_JUDGED = 500


@dataclass(frozen=True)
class ClassifierConfig:
    """Which classifier to train.

    Args:
        out: the run's folder.
        data: what the run learns from; see `lapgan.data.open_images`.
        budget: when to stop.
        level: the size of the images that it judges, as the recipe writes it; by default that of
            the level below the finest.
        maps: on its first grid; see `lapgan.models.classifier.ImageClassifier`. 64 by default.
        seed: of weights, order and shifts.
        device: `auto`, `cpu`, `cuda`.
        on_invalid: what to do with images that cannot be used: `stop` or `skip`.
        intervals: how often to report.
    """

    out: Path
    data: str
    budget: Budget
    level: str | None = None
    maps: int | None = None
    seed: int = 0
    device: str = "auto"
    on_invalid: OnInvalid = "stop"
    intervals: Intervals = field(default_factory=Intervals)


@dataclass(frozen=True)
class _Job:
    """All that the training needs, checked."""

    order: ClassifierConfig
    recipe: Recipe
    classifier: ClassifierRecipe
    images: Images
    normalization: Normalization
    batches: Batches
    compute: Compute

    @property
    def folder(self) -> Path:
        return self.order.out / CLASSIFIER

    def seed(self, images_seen: int) -> None:
        """Seeds what is random in the step that follows; -1 is for the first weights."""
        self.compute.seed(seed_of(self.order.seed, 0, images_seen + 1))

    def examples(self, images_seen: int, count: int = _BATCH) -> tuple[Tensor, Tensor]:
        """Returns I_k and the classes of the examples that follow `images_seen`."""
        pixels, labels = dataclasses.replace(self.batches, batch=count).at(images_seen)
        assert labels is not None
        k = list(self.recipe.levels).index(self.classifier.level)
        pyramid = gaussian_pyramid(
            self.normalization.normalize(pixels),
            self.recipe.sizes[: k + 1],
            self.recipe.pyramid.operator,
        )
        return self.compute.place(pyramid[k]), labels.to(self.compute.device)


@dataclass
class _State:
    """Everything that a step changes."""

    net: ImageClassifier
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        spent = (self.images_seen, self.seconds)
        save_state(path, {"net": self.net}, {"optimizer": self.optimizer}, spent)

    def load(self, path: Path) -> None:
        found = load_state(path, {"net": self.net}, {"optimizer": self.optimizer})
        self.images_seen, self.seconds = found


def train_classifier(order: ClassifierConfig, listener: Callback) -> Cascade | None:
    """Trains a run's classifier until its budget is spent, going on from its checkpoint.

    The levels are left alone; they may be trained before, at the same time, or after.

    Returns:
        The cascade, or None while some level has no weights yet.

    Raises:
        LapganError: there is no such run, it has no classes or learns from other images, its
            classifier is another one, or training diverged (the last good checkpoint is kept).
        KeyboardInterrupt: training was stopped by a signal, after a checkpoint was written.
    """
    job = _job(order)
    devices = [job.compute.device] if job.compute.device.type == "cuda" else []
    with locked(job.folder), stop_signals() as stopped, torch.random.fork_rng(devices=devices):
        state = _initial_state(job)
        if (job.folder / STATE_FILE).exists():
            state.load(job.folder / STATE_FILE)
        rewind_records(job.folder / LOG_FILE, state.images_seen)
        listener.started(CLASSIFIER, state.images_seen, state.seconds, order.budget)
        _loop(job, state, listener, stopped)
        cascade = assemble(order.out)
        if stopped():
            raise KeyboardInterrupt
    return cascade


def held_out_accuracy(order: ClassifierConfig) -> tuple[float, int] | None:
    """Returns how often a trained classifier is right on the images of the split `test`.

    Returns:
        The share of them, and how many they are; None if the data have no such split.

    Raises:
        LapganError: see `train_classifier`.
    """
    job = _job(order)
    try:
        images = open_images(order.data, split="test", on_invalid=order.on_invalid)
    except LapganError:
        return None
    if images.class_names != job.images.class_names:
        return None
    batches = dataclasses.replace(job.batches, images=images, flip=False)
    path = job.folder / LEVEL_FILE
    selector = Selector.of_weights(read_weights(path), path)
    assert selector is not None
    selector.prepare(job.compute)
    held_out, right = dataclasses.replace(job, batches=batches), 0
    with torch.inference_mode(), job.compute.autocast():
        for start in range(0, batches.epoch, _JUDGED):
            shown, target = held_out.examples(start, min(_JUDGED, batches.epoch - start))
            right += int((selector.net(shown).argmax(dim=1) == target).sum())
    return right / batches.epoch, batches.epoch


def _job(order: ClassifierConfig) -> _Job:
    recipe = recipe_of(order.out)
    if not recipe.data.classes:
        raise LapganError(
            f"{order.out}: this run ({recipe.name}) was begun without classes; there is nothing "
            "for a classifier to tell apart."
        )
    images = open_images(order.data, on_invalid=order.on_invalid)
    check_images(order.out, images)
    return _Job(
        order=order,
        recipe=recipe,
        classifier=_described(order, recipe),
        images=images,
        normalization=normalization_of(recipe, images),
        batches=training_batches(recipe, images, order.seed),
        compute=choose_compute(order.device),
    )


def _described(order: ClassifierConfig, recipe: Recipe) -> ClassifierRecipe:
    """Returns the classifier that is asked for, which is the one that the run has, if any."""
    names = list(recipe.levels)
    weights = order.out / CLASSIFIER / LEVEL_FILE
    known = read_weights(weights).classifier if weights.exists() else None
    usual = known or ClassifierRecipe(level=names[min(1, len(names) - 1)])
    asked = ClassifierRecipe(level=order.level or usual.level, maps=order.maps or usual.maps)
    if asked.level not in names:
        raise LapganError(
            f"--level {asked.level}: recipe {recipe.name} has the levels {', '.join(names)}."
        )
    if asked != usual and known is not None:
        raise LapganError(
            f"{weights.parent}: the run's classifier judges level {known.level} with {known.maps} "
            f"maps, asked for is level {asked.level} with {asked.maps}; leave --level and --maps "
            "out, or delete the folder to begin anew."
        )
    return asked


def _initial_state(job: _Job) -> _State:
    job.seed(-1)
    net = job.classifier.build(len(job.images.class_names))
    net.basis.fit(job.examples(0, _FIT_EXAMPLES)[0].cpu())
    job.compute.place(net)
    return _State(net, make_optimizer(net.parameters(), _OPTIMIZER))


def _loop(job: _Job, state: _State, listener: Callback, stopped: Callable[[], bool]) -> None:
    budget, every, meter = job.order.budget, job.order.intervals, Meter()
    begun = time.monotonic() - state.seconds
    logged, logged_images, saved = state.seconds, state.images_seen, state.seconds
    while not (done := budget.spent(state.images_seen, state.seconds) >= 1) or meter.steps:
        done = done or stopped()
        if meter.steps and (done or state.seconds - logged >= every.log):
            rate = (state.images_seen - logged_images) / (state.seconds - logged)
            _tell(job, state, listener, meter.take(), rate)
            logged, logged_images = state.seconds, state.images_seen
        if done or state.seconds - saved >= every.checkpoint:
            _checkpoint(job, state)
            saved = time.monotonic() - begun
        if done:
            return
        meter.add(**_step(job, state))
        state.seconds = time.monotonic() - begun


def _step(job: _Job, state: _State) -> dict[str, float]:
    """Updates the classifier once, and returns the figures of the step."""
    job.seed(state.images_seen)
    images, target = job.examples(state.images_seen)
    progress = job.order.budget.spent(state.images_seen, state.seconds)
    set_schedule(state.optimizer, _OPTIMIZER, state.images_seen / job.batches.epoch, progress)
    with job.compute.autocast():
        learnt = state.net.study(images, target)
    step(state.optimizer, learnt.loss)
    loss = learnt.loss.item()
    if not math.isfinite(loss):
        raise _diverged(job, state)
    state.images_seen += len(images)
    return {"loss_classifier": loss, "accuracy": learnt.accuracy.item()}


def _tell(
    job: _Job, state: _State, listener: Callback, means: dict[str, float], rate: float
) -> None:
    record = ClassifierRecord(
        images_seen=state.images_seen,
        seconds=state.seconds,
        images_per_second=rate,
        learning_rate=state.optimizer.param_groups[0]["lr"],
        **means,
    )
    append_record(job.folder / LOG_FILE, record)
    listener.recorded(CLASSIFIER, record)


def _checkpoint(job: _Job, state: _State) -> None:
    try:
        state.save(job.folder / STATE_FILE)
    except NotFiniteError as error:
        raise _diverged(job, state) from error
    tensors = classifier_tensors(state.net)
    tensors["normalisation.mean"] = job.normalization.mean
    tensors["normalisation.std"] = job.normalization.std
    spent = (state.images_seen, state.seconds)
    figures = training_figures(*spent, job.order.seed, job.images, job.compute)
    class_names = job.images.class_names
    write_weights(
        job.folder / LEVEL_FILE,
        Weights(tensors, job.recipe, class_names, {CLASSIFIER: figures}, job.classifier),
    )


def _diverged(job: _Job, state: _State) -> LapganError:
    return LapganError(
        f"{job.folder}: the classifier's training diverged after {state.images_seen} images. "
        "Delete the folder and use another --seed."
    )
