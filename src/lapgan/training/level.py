"""A level in training: its nets, its examples, its step."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lapgan.batches import TrainingSet
from lapgan.compute import Compute
from lapgan.ema import update_average
from lapgan.models.contracts import DataInitialized
from lapgan.normalization import Normalization
from lapgan.pictures import write_png, zoom_to
from lapgan.pyramid import image_of
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import PartFolder
from lapgan.seeds import seed_of
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.examples import (
    Examples,
    add_conditioning_noise,
    make_examples,
    real_stage,
)
from lapgan.training.figures import training_figures
from lapgan.training.log import LevelRecord
from lapgan.training.loop import check_finite
from lapgan.training.update import Nets, Terms, update_nets
from lapgan.weights import Weights, generator_tensors, normalization_tensors, write_weights

__all__ = ["LevelState", "LevelTask"]

# Enough for the covariance of the components of an 8x8 image, of which there are 192.
_INITIAL_EXAMPLES = 4096
_SHEET_EXAMPLES = 16


@dataclass
class LevelState:
    """Everything that a step of a level changes.

    Args:
        nets: G, D and their optimizers.
        average: G with averaged weights.
        images_seen: how many examples the steps have used.
        seconds: time spent in training.
    """

    nets: Nets
    average: nn.Module
    images_seen: int = 0
    seconds: float = 0.0

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The nets, by their names in the file."""
        return {"g": self.nets.generator, "d": self.nets.discriminator, "average": self.average}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers, by their names in the file."""
        return {
            "g_optimiser": self.nets.generator_optimizer,
            "d_optimiser": self.nets.discriminator_optimizer,
        }


@dataclass(frozen=True)
class LevelTask:
    """A level to train.

    Args:
        recipe: the recipe of the whole cascade.
        level: which of its levels.
        batches: the training examples.
        normalization: of the finest level.
        folder: the level's own folder.
        budget: when to stop.
        seed: of initial weights, order and noise.
        compute: where and in which precision.
        intervals: how often to report.
    """

    recipe: Recipe
    level: LevelRecipe
    batches: TrainingSet
    normalization: Normalization
    folder: PartFolder
    budget: Budget
    seed: int
    compute: Compute
    intervals: LogIntervals = field(default_factory=LogIntervals)

    @property
    def name(self) -> str:
        """The level's size, as the recipe writes it."""
        return self.level.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that condition the level; empty for none."""
        return self.batches.class_names if self.recipe.data.classes else ()

    def initial_state(self) -> LevelState:
        """Makes the state before the first step, from seed and data alone."""
        self.compute.seed(self._seed_after(-1))
        num_classes = len(self.class_names)
        generator = self.compute.place(self.level.build_generator(num_classes))
        discriminator = self.compute.place(self.level.build_discriminator(num_classes))
        self._initialize(generator, discriminator)
        optimizer = self.recipe.training.optimiser
        nets = Nets(
            generator,
            discriminator,
            optimizer.build(generator.parameters()),
            optimizer.build(discriminator.parameters()),
        )
        return LevelState(nets, copy.deepcopy(generator).requires_grad_(False))

    def step(self, state: LevelState) -> dict[str, float]:
        """Updates D, G and the averaged weights once; see `Task.step`."""
        training = self.recipe.training
        examples = self.examples(state.images_seen, training.batch)
        self._set_schedules(state)
        with self.compute.autocast():
            terms = self._terms(state.images_seen // training.batch)
            update = update_nets(state.nets, examples, training.objective, terms)
        figures = {
            "loss_d": update.loss_d.item(),
            "loss_g": update.loss_g.item(),
            "real_accuracy": update.real_accuracy.item(),
            "fake_accuracy": update.fake_accuracy.item(),
            "std_ratio": _std_ratio(fake=update.fake, real=examples.high),
        }
        check_finite(figures)
        state.images_seen += training.batch
        update_average(state.average, state.nets.generator, training.batch, state.images_seen,
                       training.ema_half_life)  # fmt: skip
        return figures

    def examples(self, images_seen: int, count: int) -> Examples:
        """Makes the examples that follow `images_seen`, and seeds every random part of the step."""
        pixels, labels = self.batches.at(images_seen, count)
        # Dropout, augmentation and instance noise draw from the global generators.
        self.compute.seed(self._seed_after(images_seen) ^ 1)
        return self._make_examples(pixels, labels, images_seen)

    def record(self, state: LevelState, rate: float, means: Mapping[str, float]) -> LevelRecord:
        """Makes a record; see `Task.record`."""
        return LevelRecord(
            images_seen=state.images_seen,
            seconds=state.seconds,
            images_per_second=rate,
            learning_rate=state.nets.generator_optimizer.param_groups[0]["lr"],
            **means,
        )

    def write_weights(self, state: LevelState) -> None:
        """Writes the averaged weights."""
        tensors = generator_tensors(self.name, state.average)
        tensors |= normalization_tensors(self.normalization)
        figures = training_figures(state, self.seed, self.batches, self.compute)
        write_weights(
            self.folder.weights,
            Weights(tensors, self.recipe, self.class_names, {self.name: figures}),
        )

    def draw_sheet(self, state: LevelState) -> None:
        """Writes a sheet of samples, always of the same examples and the same noise.

        One column per example: real, low-pass, generated. At the coarsest level, generated images
        only.
        """
        pixels, labels = self.batches.at(0, self.recipe.training.batch)
        labels = None if labels is None else labels[:_SHEET_EXAMPLES]
        examples = self._make_examples(pixels[:_SHEET_EXAMPLES], labels, 0)
        low, columns = examples.low, len(examples)
        with torch.no_grad(), self.compute.autocast():
            fake = examples.generate(state.average.eval()).float()
        rows = [image_of(fake, low)]
        if low is not None:
            rows = [image_of(examples.high, low), low, *rows]
        finest = self.recipe.sizes[0]
        pictures = [zoom_to(self.normalization.denormalize(row.cpu()), finest) for row in rows]
        write_png(self.folder.sheet(state.images_seen), torch.cat(pictures),
                  columns=columns // 2 if low is None else columns, zoom=2)  # fmt: skip

    def _make_examples(self, pixels: Tensor, labels: Tensor | None, images_seen: int) -> Examples:
        stage = real_stage(pixels, self.recipe, self.level, self.normalization)
        noise = torch.Generator().manual_seed(self._seed_after(images_seen))
        examples = make_examples(
            stage, self.level, labels if self.class_names else None, noise, self.compute
        )
        return add_conditioning_noise(examples, self.recipe, self.level, noise)

    def _initialize(self, *nets: nn.Module) -> None:
        """Sets the data-dependent buffers of nets from the first examples of the run."""
        nets_with_data = [net for net in nets if isinstance(net, DataInitialized)]
        if not nets_with_data:
            return
        examples = self.examples(0, _INITIAL_EXAMPLES)
        for net in nets_with_data:
            net.initialize_from(examples.high, examples.low)

    def _set_schedules(self, state: LevelState) -> None:
        """Sets the learning rates of this step."""
        epochs = state.images_seen / self.batches.epoch
        progress = self.budget.spent(state.images_seen, state.seconds)
        schedule, nets = self.recipe.training.optimiser, state.nets
        schedule.set_schedule(nets.discriminator_optimizer, epochs, progress)
        scale = self.level.generator_rate
        schedule.set_schedule(nets.generator_optimizer, epochs, progress, scale)

    def _terms(self, steps: int) -> Terms:
        """Returns the terms of the step after so many."""
        level, penalty = self.level, self.level.penalty
        is_due = penalty is not None and steps % penalty.every == 0
        return Terms(
            penalty if is_due else None, level.supervised, level.instance_noise, level.augment
        )

    def _seed_after(self, images_seen: int) -> int:
        """Returns the seed of the step that follows `images_seen`; -1 is for the first weights."""
        return seed_of(self.seed, *self.level.size, images_seen + 1)


def _std_ratio(*, fake: Tensor, real: Tensor) -> float:
    """Returns the standard deviation among generated examples over that among real ones."""
    ratio = fake.float().std(dim=0).mean() / real.float().std(dim=0).mean().clamp(min=1e-8)
    return ratio.item()
