"""The training of a run's classifier, by which `Cascade.best_of` chooses, on real images alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lapgan.batches import TrainingSet
from lapgan.cascade import Cascade
from lapgan.cascade.best_of import ClassifierGuide
from lapgan.compute import Compute, choose_compute
from lapgan.data import OnInvalid, hold_out_images, open_images
from lapgan.errors import LapganError
from lapgan.models.classifier import ClassifierSection, ImageClassifier
from lapgan.normalization import Normalization
from lapgan.optimizers import Adam, update_weights
from lapgan.recipe import Recipe
from lapgan.run_folder import CLASSIFIER, PartFolder, RunFolder
from lapgan.seeds import seed_of
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals, data_source
from lapgan.training.examples import normalization_of, real_stage, training_batches
from lapgan.training.figures import training_figures
from lapgan.training.folder import (
    RunIdentity,
    assemble,
    check_images,
    claim,
    lock,
    read_recipe_of,
    recorded_precision,
)
from lapgan.training.log import ClassifierRecord
from lapgan.training.loop import train_task
from lapgan.training.resident import place_batches
from lapgan.training.signals import stop_signals
from lapgan.weights import (
    Weights,
    classifier_tensors,
    normalization_tensors,
    read_weights,
    write_weights,
)

__all__ = ["ClassifierConfig", "ClassifierTask", "held_out_accuracy", "train_classifier"]

_OPTIMIZER = Adam(learning_rate=2e-3, betas=(0.9, 0.99), decay="cosine")
_BATCH = 128
_INITIAL_EXAMPLES = 4096
_TEST_BATCH = 500


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier to train.

    Args:
        out: the run's folder; with `model`, a folder of its own.
        budget: when to stop.
        data: the data that the run is trained on; by default the recipe's.
        level: the name of the level whose images it classifies; by default the one next to the
            finest.
        maps: on its first grid; see `lapgan.models.classifier.ImageClassifier`. 64 by default.
        seed: of weights, order and shifts.
        device: `auto`, `cpu`, `cuda`.
        precision: `auto`, `float32`, `bfloat16`; by default the run's.
        on_invalid: `stop` at images that cannot be used, or `skip` them.
        intervals: how often to report.
        model: a trained model that is to have the classifier: a file, a folder, or a name, as for
            `lapgan.weights.read_weights`. By default, the levels in `out`.
    """

    out: Path
    budget: Budget
    data: str | None = None
    level: str | None = None
    maps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    on_invalid: OnInvalid = "stop"
    intervals: LogIntervals = field(default_factory=LogIntervals)
    model: Path | None = None


@dataclass
class ClassifierState:
    """Everything that a step of the classifier changes."""

    net: ImageClassifier
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0
    rollbacks: int = 0

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The net, by its name in the file."""
        return {"net": self.net}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizer, by its name in the file."""
        return {"optimiser": self.optimizer}


@dataclass(frozen=True)
class ClassifierTask:
    """The classifier of a run, as a task of the training loop.

    Args:
        recipe: of the run.
        section: how the classifier is built.
        batches: the training examples.
        normalization: of the finest level, on the device of `compute`.
        folder: the classifier's folder.
        budget: when to stop.
        seed: of weights, order and shifts.
        compute: where and in which precision.
        intervals: how often to report.
    """

    recipe: Recipe
    section: ClassifierSection
    batches: TrainingSet
    normalization: Normalization
    folder: PartFolder
    budget: Budget
    seed: int
    compute: Compute
    intervals: LogIntervals

    @property
    def name(self) -> str:
        """The name of the part."""
        return CLASSIFIER

    @property
    def limits(self) -> None:
        """A classifier has no opponent with which it could explode."""

    def initial_state(self) -> ClassifierState:
        """Makes the state before the first step, from seed and data alone."""
        self._seed(-1)
        net = self.section.build(len(self.batches.class_names))
        net.basis.fit(self.examples(0, _INITIAL_EXAMPLES)[0].cpu())
        self.compute.place(net)
        return ClassifierState(net, _OPTIMIZER.build(net.parameters()))

    def step(self, state: ClassifierState) -> dict[str, Tensor]:
        """Updates the classifier once; see `Task.step`."""
        self._seed(state.images_seen)
        images, target = self.examples(state.images_seen, _BATCH)
        progress = self.budget.spent(state.images_seen, state.seconds)
        epochs = state.images_seen / self.batches.epoch
        _OPTIMIZER.set_schedule(state.optimizer, epochs, progress)
        with self.compute.autocast():
            result = state.net.training_loss(images, target)
        update_weights(state.optimizer, result.loss)
        state.images_seen += len(images)
        return {"loss_classifier": result.loss.detach(), "accuracy": result.accuracy.detach()}

    def examples(self, images_seen: int, count: int) -> tuple[Tensor, Tensor]:
        """Returns I_k and the classes of the examples that follow `images_seen`."""
        pixels, labels = self.batches.at(images_seen, count)
        assert labels is not None
        level = self.recipe.level(self.section.level)
        pixels = self.compute.send(pixels)
        image = real_stage(pixels, self.recipe, level, self.normalization).image
        return self.compute.place(image), self.compute.send(labels)

    def record(
        self, state: ClassifierState, rate: float, means: Mapping[str, float]
    ) -> ClassifierRecord:
        """Makes a record; see `Task.record`."""
        return ClassifierRecord(
            images_seen=state.images_seen,
            seconds=state.seconds,
            images_per_second=rate,
            learning_rate=float(state.optimizer.param_groups[0]["lr"]),
            **means,
        )

    def write_weights(self, state: ClassifierState) -> None:
        """Writes the classifier."""
        tensors = classifier_tensors(state.net) | normalization_tensors(self.normalization)
        figures = training_figures(state, self.seed, self.batches, self.compute)
        class_names = self.batches.class_names
        write_weights(
            self.folder.weights,
            Weights(tensors, self.recipe, class_names, {CLASSIFIER: figures}, self.section),
        )

    def draw_sheet(self, state: ClassifierState) -> None:
        """Draws nothing: a classifier makes no images."""

    def _seed(self, images_seen: int) -> None:
        """Seeds the random parts of the step that follows; -1 is for the first weights."""
        self.compute.seed(seed_of(self.seed, 0, images_seen + 1))


def train_classifier(config: ClassifierConfig, callback: Callback | None = None) -> Cascade | None:
    """Trains a run's classifier until its budget is spent, from its checkpoint if there is one.

    The levels stay as they are; they may be trained before, at the same time, or after. The
    classifier of a model is trained in a folder of its own, where the model is then written with
    it; a classifier that the model has is replaced there.

    Args:
        config: what to train.
        callback: called when training starts and logs a record.

    Returns:
        The cascade, or None while some level has no weights yet.

    Raises:
        LapganError: there is no such run or model, it has no classes or is trained on other
            images, its classifier is another one, or training diverged (the last good checkpoint
            is kept).
        KeyboardInterrupt: training was stopped by a signal, after a checkpoint was written.
    """
    task = _make_task(config)
    with lock(task.folder), stop_signals() as stopped:
        train_task(task, callback or Callback(), stopped)
        cascade = assemble(config.out, config.model)
        if stopped():
            raise KeyboardInterrupt
    return cascade


def held_out_accuracy(config: ClassifierConfig) -> tuple[float, int] | None:
    """Returns the accuracy of a trained classifier on the images of the split `test`.

    Returns:
        The accuracy, from 0 to 1, and the number of images; None if the data have no such split.

    Raises:
        LapganError: see `train_classifier`.
    """
    task = _make_task(config)
    try:
        source = data_source(config.data, task.recipe)
        images = open_images(source, split="test", on_invalid=config.on_invalid)
    except LapganError:
        return None
    if images.class_names != task.batches.class_names:
        return None
    batches = replace(training_batches(task.recipe, images, config.seed), flip=False)
    guide = ClassifierGuide.from_weights(read_weights(task.folder.weights), task.folder.weights)
    assert guide is not None
    guide.prepare(task.compute)
    test, correct = replace(task, batches=batches), 0
    with torch.inference_mode(), task.compute.autocast():
        for start in range(0, batches.epoch, _TEST_BATCH):
            shown, target = test.examples(start, min(_TEST_BATCH, batches.epoch - start))
            correct += int((guide.net(shown).argmax(dim=1) == target).sum())
    return correct / batches.epoch, batches.epoch


def _make_task(config: ClassifierConfig) -> ClassifierTask:
    model = _read_model(config.model) if config.model else None
    recipe = model.recipe if model else read_recipe_of(config.out)
    if not recipe.data.classes:
        raise LapganError(
            f"{config.model or config.out}: this model ({recipe.name}) was trained without "
            "classes, so there is nothing for a classifier to tell apart."
        )
    source = data_source(config.data, recipe)
    images = open_images(source, on_invalid=config.on_invalid)
    compute = choose_compute(config.device, _choose_precision(config))
    images, _ = hold_out_images(images, recipe.data.hold_out)
    if model is None:
        check_images(config.out, images)
    else:
        identity = RunIdentity(recipe, config.seed, images, compute)
        _claim_for_model(config, model.class_names, identity)
    return ClassifierTask(
        recipe=recipe,
        section=_choose_section(config, recipe),
        batches=place_batches(training_batches(recipe, images, config.seed), compute),
        normalization=normalization_of(recipe, images).to(compute.device),
        folder=RunFolder(config.out).part(CLASSIFIER),
        budget=config.budget,
        seed=config.seed,
        compute=compute,
        intervals=config.intervals,
    )


def _read_model(path: Path) -> Weights:
    weights = read_weights(path)
    weights.check_complete(path)
    return weights


def _claim_for_model(
    config: ClassifierConfig, expected: tuple[str, ...], identity: RunIdentity
) -> None:
    """Makes the folder of a model's classifier a run of the model's recipe, without levels.

    Raises:
        LapganError: the model has other classes, or the folder holds another run.
    """
    if RunFolder(config.out).has_levels():
        raise LapganError(
            f"--out {config.out}: this run has levels of its own; leave --out out for the "
            "classifier of that run, or name another folder."
        )
    found = identity.images.class_names
    if found != expected:
        raise LapganError(
            f"--data {identity.images.name}: has the classes {', '.join(found)}; "
            f"{config.model} was trained on {', '.join(expected)}. Name the data of the model."
        )
    claim(config.out, identity)


def _choose_precision(config: ClassifierConfig) -> str:
    """Returns the precision of the run, which is the classifier's too."""
    recorded = recorded_precision(config.out, "auto")
    if recorded != "auto" and config.precision not in ("auto", recorded):
        raise LapganError(
            f"--precision {config.precision}: the run in {config.out} is computed in {recorded}, "
            "and so is its classifier; leave the option out."
        )
    return recorded if config.precision == "auto" else config.precision


def _choose_section(config: ClassifierConfig, recipe: Recipe) -> ClassifierSection:
    """Returns the classifier that the options ask for; it has to be the run's, if it has one."""
    names = recipe.level_names
    folder = RunFolder(config.out).part(CLASSIFIER)
    existing = read_weights(folder.weights).classifier if folder.weights.exists() else None
    default = existing or ClassifierSection(level=names[min(1, len(names) - 1)])
    section = ClassifierSection(
        level=config.level or default.level, maps=config.maps or default.maps
    )
    if section.level not in names:
        raise LapganError(
            f"--level {section.level}: recipe {recipe.name} has the levels {', '.join(names)}."
        )
    if existing is not None and section != existing:
        raise LapganError(
            f"{folder.path}: the run's classifier is for level {existing.level} and has "
            f"{existing.maps} maps, not level {section.level} and {section.maps}; leave --level "
            "and --maps out, or delete the folder to begin anew."
        )
    return section
