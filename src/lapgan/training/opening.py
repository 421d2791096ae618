"""The training data of a run: decoded images, or a stream of them."""

from lapgan.batches import TrainingSet, check_image_size
from lapgan.data import (
    Images,
    ImageStream,
    OnInvalid,
    ShardOrder,
    hold_out_images,
    is_stream,
    open_images,
    open_stream,
)
from lapgan.errors import LapganError
from lapgan.normalization import Normalization
from lapgan.recipe import Recipe
from lapgan.streaming import StreamedBatches
from lapgan.training.examples import normalization_of, training_batches

__all__ = [
    "TrainingImages",
    "class_names_of",
    "open_training_images",
    "training_normalization",
    "training_set",
]

TrainingImages = Images | ImageStream


def open_training_images(source: str, recipe: Recipe, on_invalid: OnInvalid) -> TrainingImages:
    """Opens the data source of a run; `stream:SOURCE` is not decoded up front.

    Raises:
        LapganError: the source cannot be used, or its images do not have the size of the recipe.
    """
    corners, size = recipe.data.crop == "corners", recipe.sizes[0]
    if not is_stream(source):
        images = open_images(
            source,
            on_invalid=on_invalid,
            check_size=lambda name, images: check_image_size(name, images, size, corners=corners),
        )
        return hold_out_images(images, recipe.data.hold_out)[0]
    if recipe.data.hold_out:
        raise LapganError(
            f"{source}: no image of a stream can be held out, and recipe {recipe.name} holds out "
            f"{recipe.data.hold_out:,}; use --set data.hold_out=0, or leave out `stream:`."
        )
    stream = open_stream(source, on_invalid=on_invalid)
    check_image_size(stream.name, stream.size, size, corners=corners)
    return stream


def training_set(
    recipe: Recipe,
    images: TrainingImages,
    seed: int,
    *,
    workers: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> TrainingSet:
    """Returns the minibatches of a recipe.

    Args:
        recipe: says what examples are made of the images.
        images: the training images.
        seed: of their order.
        workers: processes that decode a stream; 0 for a thread.
        rank: which of the processes that train together this is; streams only.
        ranks: how many processes train together; streams only.

    Raises:
        LapganError: the images do not fit the recipe.
    """
    data = recipe.data
    if isinstance(images, Images):
        return training_batches(recipe, images, seed)
    if data.replacement:
        raise LapganError(
            f"{images.name}: a stream is read in order, but the recipe {recipe.name} draws with "
            "replacement; use --set data.replacement=false, or leave out `stream:`."
        )
    order = ShardOrder(images.counts, seed, data.buffer, rank, ranks)
    return StreamedBatches(
        images, recipe.sizes[0], order, data.crop == "corners", data.flip, workers
    )


def training_normalization(recipe: Recipe, images: TrainingImages) -> Normalization:
    """Returns the normalization of the finest level; that of a stream from 4,096 of its images."""
    sample = images if isinstance(images, Images) else images.sample()
    return normalization_of(recipe, sample)


def class_names_of(recipe: Recipe, images: TrainingImages) -> tuple[str, ...]:
    """Returns the classes that condition the levels; empty for none."""
    return tuple(images.class_names) if recipe.data.classes else ()
