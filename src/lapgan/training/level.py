"""A level in training: its nets, its examples, its step."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lapgan.batches import TrainingSet
from lapgan.compilation import compile_function, compile_net, explain_compiler_errors
from lapgan.compute import Compute
from lapgan.distributed import average_over_ranks, current_ranks
from lapgan.ema import update_average
from lapgan.models.contracts import DataInitialized, Discriminator
from lapgan.normalization import Normalization
from lapgan.pictures import write_png, zoom_to
from lapgan.pyramid import image_of
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import PartFolder
from lapgan.seeds import seed_of
from lapgan.training.coarse import CoarseLevels, with_generated_low
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.examples import (
    Examples,
    add_conditioning_noise,
    make_examples,
    real_stage,
)
from lapgan.training.figures import training_figures
from lapgan.training.graphs import CudaGraphs, StepGraphs
from lapgan.training.log import LevelRecord
from lapgan.training.rollback import Limits, Window, limits_of
from lapgan.training.selection import Selection
from lapgan.training.starting import StartingModel
from lapgan.training.update import Nets, Terms, Update, update_nets
from lapgan.weights import Weights, generator_tensors, normalization_tensors, write_weights

__all__ = ["LevelState", "LevelTask"]

# Enough for the covariance of the components of an 8x8 image, of which there are 192.
_INITIAL_EXAMPLES = 4096
_SHEET_EXAMPLES = 16

_Minibatch = TypeVar("_Minibatch", Examples, Tensor)


@dataclass
class LevelState:
    """Everything that a step of a level changes.

    Args:
        nets: G, D and their optimizers.
        average: G with averaged weights.
        images_seen: how many examples the steps have used.
        seconds: time spent in training.
        rollbacks: how often the level has gone back to earlier weights.
        window: figures of the last steps, if the level may go back.
        graphs: replays the updates of the nets; None to make each anew.
    """

    nets: Nets
    average: nn.Module
    images_seen: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    window: Window | None = None
    graphs: StepGraphs | None = None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The nets, by their names in the file."""
        nets = {"g": self.nets.generator, "d": self.nets.discriminator, "average": self.average}
        return nets if self.window is None else {**nets, "window": self.window}

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
        normalization: of the finest level, on the device of `compute`.
        folder: the level's own folder.
        budget: when to stop.
        seed: of initial weights, order and noise.
        compute: where and in which precision.
        intervals: how often to report.
        selection: keeps the best averaged G beside the last one, if there is any.
        start: the trained model that the nets start with; None for random weights.
        coarse: generates some of the low-pass images, at a level with `generated_low`.
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
    selection: Selection | None = None
    start: StartingModel | None = None
    coarse: CoarseLevels | None = None

    @property
    def name(self) -> str:
        """The level's size, as the recipe writes it."""
        return self.level.name

    @property
    def limits(self) -> Limits | None:
        """Beyond which training counts as exploded, if the level may go back."""
        return limits_of(self.recipe.training)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that condition the level; empty for none."""
        return self.batches.class_names if self.recipe.data.classes else ()

    def initial_state(self) -> LevelState:
        """Makes the state before the first step, from seed, data and the starting model alone."""
        self.compute.seed(self._seed_after(-1))
        num_classes = len(self.class_names)
        generator = self.compute.place(self.level.build_generator(num_classes))
        discriminator = self.compute.place(self.level.build_discriminator(num_classes))
        self._initialize(generator, discriminator)
        self._start_from_model(generator, discriminator)
        optimizer = self.recipe.training.optimiser
        nets = Nets(
            generator,
            discriminator,
            optimizer.build(generator.parameters()),
            optimizer.build(discriminator.parameters()),
        )
        window = Window().to(self.compute.device) if self.limits else None
        average = copy.deepcopy(generator).requires_grad_(False)
        if self.compute.compiled:
            nets = _compile_nets(nets)
        return LevelState(nets, average, window=window, graphs=self._graphs(nets))

    def _graphs(self, nets: Nets) -> StepGraphs | None:
        # Ranks exchange gradients within a step.
        if not self.compute.cuda_graphs or current_ranks().size > 1:
            return None
        optimizers = (nets.generator_optimizer, nets.discriminator_optimizer)
        device = self.compute.device
        return StepGraphs(CudaGraphs(device), optimizers, device)

    def step(self, state: LevelState) -> dict[str, Tensor]:
        """Updates D, G and the averaged weights once; see `Task.step`."""
        training = self.recipe.training
        examples = self.examples(state.images_seen, training.batch * training.draws)
        if self.coarse is not None:
            random = self.compute.generator(self._seed_after(state.images_seen) ^ 4)
            examples = with_generated_low(examples, self.coarse, self.level, random)
        self._set_schedules(state)
        update, terms = partial(self._update, state.nets), self._terms(state)
        if state.graphs is None:
            figures = update(examples, terms)
        else:
            figures = state.graphs.step(update, examples, terms)
        state.images_seen += training.batch
        update_average(state.average, state.nets.generator, training.batch, state.images_seen,
                       training.ema_half_life, training.ema_ramp)  # fmt: skip
        average_over_ranks([*figures.values()])
        if state.window is not None:
            state.window.add(figures)
        if self.selection is not None and current_ranks().is_main:
            seen = (state.images_seen - training.batch, state.images_seen)
            self.selection.consider(
                state.average, seen, lambda path, extra: self._write_weights(path, state, extra)
            )
        return figures

    def _update(self, nets: Nets, examples: Examples, terms: Terms) -> dict[str, Tensor]:
        """Updates D and G once, on the part of the examples that this rank takes."""
        training = self.recipe.training
        first = _part_of_rank(examples[: training.batch])
        fresh = _part_of_rank(examples[training.batch :]) if training.draws > 1 else None
        with self.compute.autocast(), explain_compiler_errors(self.compute.compiled):
            update = update_nets(nets, first, training.objective, terms, fresh)
        return _figures(update, first)

    def examples(self, images_seen: int, count: int) -> Examples:
        """Makes the examples that follow `images_seen`, and seeds every random part of the step."""
        pixels, labels = self.batches.at(images_seen * self.recipe.training.draws, count)
        # Dropout, augmentation and instance noise draw from the global generators.
        self.compute.seed(self._seed_after(images_seen) ^ (2 * current_ranks().rank + 1))
        return self._make_examples(pixels, labels, images_seen)

    def record(self, state: LevelState, rate: float, means: Mapping[str, float]) -> LevelRecord:
        """Makes a record; see `Task.record`."""
        return LevelRecord(
            images_seen=state.images_seen,
            seconds=state.seconds,
            images_per_second=rate,
            learning_rate=float(state.nets.generator_optimizer.param_groups[0]["lr"]),
            rollbacks=state.rollbacks,
            **means,
        )

    def write_weights(self, state: LevelState) -> None:
        """Writes the averaged weights."""
        self._write_weights(self.folder.weights, state, {})

    def _write_weights(self, path: Path, state: LevelState, extra: Mapping[str, Any]) -> None:
        tensors = generator_tensors(self.name, state.average)
        tensors |= normalization_tensors(self.normalization)
        figures = {**training_figures(state, self.seed, self.batches, self.compute), **extra}
        if self.start is not None:
            figures["start_from"] = self.start.provenance
        write_weights(
            path,
            Weights(tensors, self.recipe, self.class_names, {self.name: figures}),
        )

    def draw_sheet(self, state: LevelState) -> None:
        """Writes a sheet of samples, always of the same examples and the same noise.

        One column per example: real, low-pass, generated. At the coarsest level, generated images
        only.
        """
        pixels, labels = self.batches.at(0, min(_SHEET_EXAMPLES, self.recipe.training.batch))
        examples = self._make_examples(pixels, labels, 0)
        low, columns = examples.low, len(examples)
        with torch.no_grad(), self.compute.autocast():
            fake = examples.generate(state.average.eval()).float()
        rows = [image_of(fake, low)]
        if low is not None:
            rows = [image_of(examples.high, low), low, *rows]
        finest = self.recipe.sizes[0]
        denormalize = self.normalization.denormalize
        pictures = [zoom_to(denormalize(row).cpu(), finest) for row in rows]
        write_png(self.folder.sheet(state.images_seen), torch.cat(pictures),
                  columns=columns // 2 if low is None else columns, zoom=2)  # fmt: skip

    def _make_examples(self, pixels: Tensor, labels: Tensor | None, images_seen: int) -> Examples:
        pixels = self.compute.send(pixels)
        stage = real_stage(pixels, self.recipe, self.level, self.normalization)
        noise = self.compute.generator(self._seed_after(images_seen))
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

    def _start_from_model(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Gives the nets the weights of the starting model; a checkpoint has later ones."""
        if self.start is not None and not self.folder.state.exists():
            self.start.load_into(generator, self.level, len(self.class_names))
            self.start.load_discriminator_into(discriminator, self.level)

    def _set_schedules(self, state: LevelState) -> None:
        """Sets the learning rates of this step."""
        training, nets = self.recipe.training, state.nets
        steps = state.images_seen // training.batch
        epochs = state.images_seen / self.batches.epoch
        progress = self.budget.spent(state.images_seen, state.seconds)
        scale = self.level.rate * 0.5**state.rollbacks
        scale_d = scale * _warm_up(steps, training.warm_up)
        scale_g = scale * _warm_up(steps - self._delay, training.warm_up)
        schedule = training.optimiser
        schedule.set_schedule(nets.discriminator_optimizer, epochs, progress, scale_d)
        scale_g *= self.level.generator_rate
        schedule.set_schedule(nets.generator_optimizer, epochs, progress, scale_g)

    @property
    def _delay(self) -> int:
        """The number of steps in which D alone is updated."""
        is_new = self.start is not None and not self.start.has_discriminator(self.level)
        return self.recipe.training.delay(for_new_discriminator=is_new)

    def _terms(self, state: LevelState) -> Terms:
        """Returns the terms of the step that follows."""
        level, penalty, training = self.level, self.level.penalty, self.recipe.training
        steps = state.images_seen // training.batch
        progress = self.budget.spent(state.images_seen, state.seconds)
        weight = level.supervised.weight_at(progress)
        random = self.compute.generator(self._seed_after(state.images_seen) ^ 2)
        candidates = _draw_candidates(level, training.batch, random) if weight else ()
        if penalty is not None and steps % penalty.every:
            penalty = None
        return Terms(
            penalty=penalty,
            penalty_weight=None if penalty is None else penalty.weight_at(progress),
            supervised=weight or None,
            distance=level.supervised.distance,
            candidates=tuple(map(self.compute.place, candidates)),
            instance_noise=level.instance_noise,
            augment=level.augment,
            clip=training.clip_gradients,
            updates_generator=steps >= self._delay,
        )

    def _seed_after(self, images_seen: int) -> int:
        """Returns the seed of the step that follows `images_seen`; -1 is for the first weights."""
        return seed_of(self.seed, *self.level.size, images_seen + 1)


def _draw_candidates(level: LevelRecipe, batch: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Draws further noise for the supervised term, where it takes the best of several."""
    return tuple(
        _part_of_rank(level.noise.sample(batch, level.size, random))
        for _ in range(level.supervised.best_of - 1)
    )


def _warm_up(steps: int, warm_up: int) -> float:
    """Returns the part of its learning rate that a net has after so many steps.

    It rises from 0 along a line in `warm_up` steps; before the first step, it is 0.
    """
    if steps < 0:
        return 0.0
    return min(1.0, (steps + 1) / warm_up) if warm_up else 1.0


def _compile_nets(nets: Nets) -> Nets:
    """Compiles G and the head of D."""
    # What was compiled for another level counts against a limit.
    torch._dynamo.reset()
    compile_net(nets.generator)
    head = cast(Discriminator, nets.discriminator).head
    return replace(nets, compiled_head=compile_function(head))


def _part_of_rank(minibatch: _Minibatch) -> _Minibatch:
    """Returns the part of a minibatch, or of noise for one, that this rank takes."""
    ranks = current_ranks()
    if ranks.size == 1:
        return minibatch
    return minibatch[ranks.part_of(len(minibatch), minibatch.device)]


def _figures(update: Update, examples: Examples) -> dict[str, Tensor]:
    """Returns the figures of a step, without waiting for the device."""
    figures = {
        "loss_d": update.loss_d,
        "loss_g": update.loss_g,
        "real_accuracy": update.real_accuracy,
        "fake_accuracy": update.fake_accuracy,
        "std_ratio": _std_ratio(fake=update.fake, real=examples.high),
        "gradient_d": update.gradient_d,
        "gradient_g": update.gradient_g,
    }
    extra = {"penalty": update.penalty, "supervised": update.supervised}
    return figures | {name: figure for name, figure in extra.items() if figure is not None}


def _std_ratio(*, fake: Tensor, real: Tensor) -> Tensor:
    """Returns the standard deviation among generated examples over that among real ones."""
    return _mean_std(fake) / _mean_std(real).clamp(min=1e-8)


def _mean_std(x: Tensor) -> Tensor:
    """Returns the mean standard deviation of a pixel; `Tensor.std` is slow over the first axis."""
    x = x.float()
    return (x - x.mean(dim=0)).square().mean(dim=0).sqrt().mean()
