"""A run: one recipe, and the training of its levels into one cascade."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch

from lapgan.cascade import Cascade
from lapgan.compilation import choose_compiled
from lapgan.compute import Compute, choose_compute
from lapgan.data.sources.base import STREAM
from lapgan.distributed import Ranks, decide_together, join_ranks, main_rank_first
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.coarse import check_coarse_levels, is_of_run
from lapgan.training.config import RunConfig, data_source
from lapgan.training.folder import (
    RunIdentity,
    assemble,
    claim,
    recorded_compile,
    recorded_precision,
    starting_model,
)
from lapgan.training.frozen import check_frozen_levels, copy_frozen_levels
from lapgan.training.opening import (
    TrainingImages,
    class_names_of,
    open_training_images,
    training_set,
)
from lapgan.training.schedule import train_levels
from lapgan.training.selection import open_held_out
from lapgan.training.signals import stop_signals
from lapgan.training.starting import StartingModel
from lapgan.writing import write_overview

__all__ = ["choose_run_compute", "plan", "train"]


def train(config: RunConfig, callback: Callback | None = None) -> Cascade | None:
    """Trains the levels of a run, from their checkpoints if there are any.

    >>> recipe = lapgan.read_recipe("dead-leaves", ["data.source=dead-leaves:64"])
    >>> cascade = lapgan.train(lapgan.RunConfig(recipe, out="first", images=64))
    >>> cascade.sample(2).shape
    torch.Size([2, 3, 32, 32])

    Args:
        config: what to train.
        callback: called when a level starts, logs a record, or warns.

    Started by `torchrun`, every process calls this: together they train each level on the
    minibatches of the recipe, and the first of them writes the files (`lapgan.distributed`).

    Returns:
        The cascade; None while some level has no weights yet, and for every rank but the first.

    Raises:
        LapganError: the folder belongs to another recipe, data, seed or precision, a level is
            trained by another process, or a level failed.
        KeyboardInterrupt: the run was stopped by a signal, after checkpoints were written.
    """
    with join_ranks(config.device) as ranks:
        callback = callback if callback and ranks.is_main else Callback()
        with main_rank_first():
            _check_ranks(config, ranks)
            config, identity = _open(config)
            _announce(config, identity.images, callback)
            claim(config.out, identity)
            class_names = class_names_of(config.recipe, identity.images)
            copy_frozen_levels(config.out, identity.start, config.recipe, class_names)
        with stop_signals() as stopped:
            train_levels(config, identity.images, identity.start, callback, stopped)
            cascade = assemble(config.out) if ranks.is_main else None
            if decide_together(stopped()):
                raise KeyboardInterrupt
        if cascade is not None:
            write_overview(cascade, RunFolder(config.out).samples)
    return cascade


def _announce(config: RunConfig, images: TrainingImages, callback: Callback) -> None:
    """Says what was found in the data, and which levels will be trained."""
    callback.opened(_describe_data(config, images))
    callback.planned([(level.name, config.budget(level)) for level in config.selected_levels])


def plan(config: RunConfig) -> Iterator[str]:
    """Yields, line by line, what `train` would do; raises what it would raise before it starts."""
    config, identity = _open(config)
    identity.check(config.out)
    images = identity.images
    yield _describe_data(config, images)
    num_classes = len(class_names_of(config.recipe, images))
    for level in config.selected_levels:
        yield from _describe_level(config, level, num_classes)
    if identity.start is not None:
        yield from _describe_start(config, identity.start)
    for level in config.selected_levels:
        if level.generated_low:
            yield (
                f"level {level.name}: G works on {level.generated_low:.0%} low-pass images that "
                f"the coarser levels generate ({_describe_coarser(config, identity.start, level)})"
            )
    yield f"run folder: {config.out}"


def _describe_level(config: RunConfig, level: LevelRecipe, num_classes: int) -> Iterator[str]:
    nets = (level.build_generator(num_classes), level.build_discriminator(num_classes))
    g, d = (sum(p.numel() for p in net.parameters()) for net in nets)
    yield f"level {level.name}: G {g:,} and D {d:,} parameters, for {config.budget(level)}"
    noise, size = level.noise, level.size
    yield (
        f"level {level.name}: noise {noise.kind!r} of {noise.entropy(size):,.0f} bits per "
        f"image, covariance of rank {noise.covariance_rank(size):,} and effective dimension "
        f"{noise.effective_dimension(size):,.1f}"
    )


def _describe_start(config: RunConfig, start: StartingModel) -> Iterator[str]:
    for level in config.selected_levels:
        is_new = not start.has_discriminator(level)
        delay = config.recipe.training.delay(for_new_discriminator=is_new)
        subject = "G starts" if is_new else "G and D start"
        waits = f", and G waits {delay:,} steps for D" if delay else ""
        yield f"level {level.name}: {subject} with the weights of {start.name}{waits}"
    for level in config.recipe.levels:
        if level.frozen:
            yield f"level {level.name}: frozen, as it is in {start.name}"


def _describe_coarser(config: RunConfig, start: StartingModel | None, level: LevelRecipe) -> str:
    """Says of each coarser level whether it is the run's own or the starting model's."""
    sources = []
    for coarser in reversed(config.recipe.levels[level.index + 1 :]):
        is_own = is_of_run(config.out, coarser, config.selected_levels)
        model = "this run" if is_own or start is None else start.name
        sources.append(f"{coarser.name} of {model}")
    return ", ".join(sources)


def _open(config: RunConfig) -> tuple[RunConfig, RunIdentity]:
    """Opens the data, chooses how nets are computed, and checks that everything fits."""
    recipe = config.recipe
    source = data_source(config.data, recipe)
    _check_place(config.out, source)
    _check_jobs(config)
    images = open_training_images(source, recipe, config.on_invalid)
    _check_images(config, images)
    if config.select is not None:
        open_held_out(config.select, source, images, recipe, config.on_invalid)
    _check_nets(recipe, images)
    start = starting_model(config.out, config.start_from)
    class_names = class_names_of(recipe, images)
    if start is not None:
        _check_start(config, start, len(class_names))
    check_frozen_levels(config.out, start, recipe, class_names)
    check_coarse_levels(config.out, start, recipe, config.selected_levels, class_names)
    compute = choose_run_compute(config)
    identity = RunIdentity(recipe, config.seed, images, compute, start)
    chosen = dataclasses.replace(config, precision=compute.precision, compile=compute.compiled)
    return chosen, identity


def choose_run_compute(config: RunConfig) -> Compute:
    """Returns how the nets of a run are computed: as it was begun, or else as the options say.

    Raises:
        LapganError: there is no such device or precision, or nets cannot be compiled.
    """
    compute = choose_compute(config.device, recorded_precision(config.out, config.precision))
    asked = recorded_compile(config.out, config.compile)
    return dataclasses.replace(compute, compiled=choose_compiled(compute.device, asked))


def _check_ranks(config: RunConfig, ranks: Ranks) -> None:
    ranks.check_batch(config.recipe.training.batch)
    if ranks.size > 1 and config.jobs > 1:
        raise LapganError(
            f"--jobs {config.jobs}: the {ranks.size} processes of torchrun train each level "
            "together; leave --jobs out, or train the levels by commands of their own (--level)."
        )


def _check_jobs(config: RunConfig) -> None:
    """Raises a LapganError if levels would be trained at once of which one needs another."""
    *finer, _ = reversed(config.selected_levels)
    for level in finer:
        if config.jobs > 1 and level.generated_low:
            raise LapganError(
                f"--jobs {config.jobs}: level {level.name} is trained on images of the coarser "
                f"levels, which come first (levels.{level.name}.generated_low = "
                f"{level.generated_low:g}); leave --jobs out, or set the key to 0."
            )


def _check_images(config: RunConfig, images: TrainingImages) -> None:
    training_set(config.recipe, images, config.seed)
    if config.recipe.data.classes and not images.class_names:
        raise LapganError(
            f"{images.name}: recipe {config.recipe.name} is class-conditional (data.classes = "
            "true) but these images have no classes; use class folders or labels (a column of a "
            "parquet file is named as FILE.parquet:COLUMN), or --set data.classes=false."
        )


def _check_nets(recipe: Recipe, images: TrainingImages) -> None:
    """Builds the nets of every level, so that none is refused after others were trained."""
    num_classes = len(class_names_of(recipe, images))
    with torch.random.fork_rng(devices=[]):
        for level in recipe.levels:
            try:
                level.build_generator(num_classes)
                level.build_discriminator(num_classes)
            except LapganError as error:
                raise LapganError(f"recipe {recipe.name}: levels.{level.name}: {error}") from None
            except (RuntimeError, MemoryError, OverflowError) as error:
                raise LapganError(
                    f"recipe {recipe.name}: levels.{level.name}: the nets cannot be built in this "
                    f"machine's memory ({str(error).splitlines()[0]}); choose smaller ones."
                ) from error


def _check_start(config: RunConfig, start: StartingModel, num_classes: int) -> None:
    """Raises a LapganError if a level without a checkpoint cannot start from a model."""
    with torch.random.fork_rng(devices=[]):
        for level in config.selected_levels:
            if not RunFolder(config.out).part(level.name).state.exists():
                start.load_into(level.build_generator(num_classes), level, num_classes)
                start.load_discriminator_into(level.build_discriminator(num_classes), level)


def _check_place(out: Path, source: str) -> None:
    """Raises a LapganError if the sheets of a run would become images of its own data."""
    folder = resolve_data_path(source.removeprefix(STREAM))
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise LapganError(
            f"--out {out}: lies in the folder of the data ({folder}), where the run's sheets of "
            "samples would be taken for data. Choose a folder outside of it."
        )


def _describe_data(config: RunConfig, images: TrainingImages) -> str:
    unused = ", not used" if images.class_names and not config.recipe.data.classes else ""
    return f"data: {images.describe()}{unused}"
