"""The training images nearest to generated ones: does the model copy training images?"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.features.extract import (
    Extractor,
    Features,
    check_images,
    check_same_size,
    extract_features,
)
from lapgan.evaluation.measurement import Detail, Measurement, Picture
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.real import TrainingExamples
from lapgan.evaluation.sections import SCORES
from lapgan.pictures import encode_png, sheet
from lapgan.progress import tracked

__all__ = [
    "METRIC",
    "Memorization",
    "Neighbors",
    "arrange_neighbors",
    "compare_neighbors",
    "nearest_by_features",
    "nearest_by_pixels",
]

# Rows of the training set that are compared at once: 1,000 of 3x96x96 in float64 are 220 MB.
_BLOCK = 1000
# The fraction of held-out images that are nearest to training images.
_NEAR = 0.01
# Of the picture: rows, and neighbors by each distance in a row.
_ROWS, _NEIGHBORS = 8, 4


_Searched = Tensor | NDArray[np.uint8] | TrainingExamples


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest training images of n images, nearest first.

    Args:
        indices: int64 (n, k), into the training images.
        distances: float64 (n, k), Euclidean.
        space: `pixels`, or the net whose features were compared.
        n_train: how many images were searched.
    """

    indices: Int64[Tensor, "n k"] = field(repr=False)
    distances: Float[Tensor, "n k"] = field(repr=False)
    space: str
    n_train: int


@dataclass(frozen=True)
class Memorization:
    """How near generated images are to training images, relative to held-out real images.

    Args:
        ratio: the median distance of a generated image to its nearest training image, divided by
            that of a held-out image. About 1 for new images of the same distribution, 0 for copies.
        copies: the fraction of generated images nearer to a training image than 99% of held-out
            images are. About 0.01 for new images of the same distribution, 1 for copies.
        copies_error: of that fraction: binomial, of the generated images and of the 1% of held-out
            ones.
        space: `pixels`, or the net whose features were compared. In pixels, smooth images are near
            to everything: a ratio below 1 may only mean blur.
        n_train: training images.
        n_held_out: held-out images, or training images that stand for them.
        n_fake: generated images.
    """

    ratio: float
    copies: float
    copies_error: float
    space: str
    n_train: int
    n_held_out: int
    n_fake: int


def nearest_by_pixels(images: UInt8[Tensor, "n 3 h w"], train: _Searched, k: int = 5) -> Neighbors:
    """Finds the nearest training images by pixels: exactly, in blocks.

    Distances are Euclidean over all 3 h w values of 0 to 255.

    Args:
        images: the images to look up.
        train: uint8 (N, 3, h, w), such as `Images.pixels`, or training examples; read block by
            block.
        k: how many neighbors.

    Raises:
        LapganError: the images are no uint8 images, or of another size than the training images,
            or there are fewer than k of these.
    """
    check_images(images, "images")
    check_same_size((train.shape[-2], train.shape[-1]), (images.shape[-2], images.shape[-1]))
    return _nearest(images, train, k, "pixels")


def nearest_by_features(images: Features, train: Features, k: int = 5) -> Neighbors:
    """Finds the nearest training images by the Euclidean distance of features: exactly, in blocks.

    Raises:
        LapganError: the features come from different nets, or there are fewer than k images.
    """
    if images.extractor != train.extractor:
        raise LapganError(
            f"features by {images.extractor} and by {train.extractor} cannot be compared."
        )
    return _nearest(images.values, train.values, k, images.extractor)


def _nearest(queries: Tensor, train: _Searched, k: int, space: str) -> Neighbors:
    if not 1 <= k <= len(train):
        raise LapganError(f"{k} neighbors: expected 1 to {len(train)}, the number of images.")
    x = _rows(queries)
    distances, indices = x.new_empty((len(x), 0)), torch.empty((len(x), 0), dtype=torch.int64)
    for start in tracked(range(0, len(train), _BLOCK), f"neighbors by {space}"):
        block = train[start : start + _BLOCK]
        y = _rows(block if isinstance(block, Tensor) else torch.from_numpy(np.array(block)))
        # In float64 the products of pixels are exact, so a copy is at a distance of 0.
        new = torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")
        new_indices = torch.arange(start, start + len(y)).expand_as(new)
        distances = torch.cat((distances, new), 1)
        indices = torch.cat((indices, new_indices), 1)
        distances, order = distances.topk(min(k, distances.shape[1]), largest=False)
        indices = indices.gather(1, order)
    return Neighbors(indices, distances, space, len(train))


def _rows(x: Tensor) -> Float[Tensor, "n d"]:
    return x.flatten(1).double()


def compare_neighbors(fake: Neighbors, held_out: Neighbors) -> Memorization:
    """Compares the nearest distances of generated images with those of held-out real images.

    Args:
        fake: the neighbors of generated images among the training images.
        held_out: the neighbors of held-out images among the same training images.

    Raises:
        LapganError: the two were not searched in the same space and set, there are no images, or
            the held-out images are training images.
    """
    if (fake.space, fake.n_train) != (held_out.space, held_out.n_train):
        raise LapganError(
            f"memorization: neighbors by {fake.space} among {fake.n_train} images and by "
            f"{held_out.space} among {held_out.n_train}; search the same way for both."
        )
    x, y = fake.distances[:, 0], held_out.distances[:, 0]
    if not len(x) or not len(y):
        raise LapganError("memorization: no images to compare.")
    if y.median() == 0:
        raise LapganError(
            "memorization: most of the held-out images are training images themselves; hold out "
            "others, such as the test split."
        )
    ratio = float(x.median() / y.median())
    copies = float((x < y.quantile(_NEAR)).double().mean())
    variance = copies * (1 - copies) / len(x) + _NEAR * (1 - _NEAR) / len(y)
    return Memorization(ratio, copies, variance**0.5, fake.space, fake.n_train, len(y), len(x))


def arrange_neighbors(
    images: UInt8[Tensor, "n 3 h w"],
    by_pixels: UInt8[Tensor, "n k 3 h w"],
    by_features: UInt8[Tensor, "n k 3 h w"],
) -> UInt8[Tensor, "3 H W"]:
    """Lays out one row per image: itself, its neighbors by pixels, its neighbors by features.

    Args:
        images: generated images.
        by_pixels: their nearest training images by pixels, `train[neighbors.indices]`.
        by_features: the same by features.
    """
    blank = torch.full_like(images[:, None], 255)
    rows = torch.cat((images[:, None], blank, by_pixels, blank, by_features), dim=1)
    return sheet(rows.flatten(0, 1), columns=rows.shape[1])


@dataclass(frozen=True, eq=False)
class _Search:
    """The nearest training examples of a model's images, and of held-out ones.

    Args:
        examples: that were searched.
        queries: the model's images.
        fake: their neighbors.
        held_out: those of held-out images.
    """

    examples: TrainingExamples
    queries: UInt8[Tensor, "n 3 h w"]
    fake: Neighbors
    held_out: Neighbors


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement | Picture]:
    images = context.samples(model)
    n = min(context.counts.neighbor_queries, len(images))
    chosen = torch.linspace(0, len(images) - 1, n).long()
    by_pixels = _search_pixels(context, model, images[chosen])
    yield from _report(context, model, by_pixels)
    for extractor in context.extractors:
        features = context.features(model, extractor)[chosen]
        by_features = _search_features(context, extractor, by_pixels, features)
        yield from _report(context, model, by_features)
        yield _draw(context, model, extractor, by_pixels, by_features)


def _search_pixels(context: Context, model: EvaluatedModel, queries: Tensor) -> _Search:
    # Whether another program mirrored its training images is not known.
    mirrored = model.cascade is None or model.cascade.recipe.data.flip
    count = min(context.counts.neighbor_candidates, len(context.training))
    examples = TrainingExamples(context.training, model.size, count, mirrored)
    return _Search(
        examples,
        queries,
        fake=nearest_by_pixels(queries, examples, min(_NEIGHBORS, len(examples))),
        held_out=context.remember(model.size, _search_real, context, examples),
    )


def _search_real(context: Context, examples: TrainingExamples) -> Neighbors:
    """Searches for held-out images, or, where there are none, for training images among others."""
    if len(context.held_out):
        held_out = context.real(examples.size).test(context.counts.neighbor_queries)
        return nearest_by_pixels(held_out, examples, 1)
    own = _choose_training_images(context, examples)
    queries = examples[examples.represent(examples.count)[own]]
    found = nearest_by_pixels(queries, examples, min(examples.variants + 1, len(examples)))
    return _drop_own(found, own, examples)


def _choose_training_images(context: Context, examples: TrainingExamples) -> Int64[Tensor, " n"]:
    """Returns the training images that stand for held-out ones, of those with features."""
    n = min(context.counts.samples, examples.count)
    return torch.linspace(0, n - 1, min(context.counts.neighbor_queries, n)).long()


def _drop_own(
    neighbors: Neighbors, own: Int64[Tensor, " n"], examples: TrainingExamples
) -> Neighbors:
    """Returns the nearest neighbor of each training image that is no variant of itself.

    It is as far away as that of a held-out image, since each image is one draw among the others.

    Args:
        neighbors: one more than an image has variants.
        own: the training images whose neighbors they are.
        examples: that were searched.
    """
    other = neighbors.indices // examples.variants != own[:, None]
    first = other.int().argmax(1, keepdim=True)
    return replace(
        neighbors,
        indices=neighbors.indices.gather(1, first),
        distances=neighbors.distances.gather(1, first),
    )


def _search_features(
    context: Context, extractor: Extractor, search: _Search, fake: Features
) -> _Search:
    """Searches by features the images of the distribution, and what is nearest by pixels.

    Features of every crop and mirror image would take hours. A copied one is the nearest by
    pixels, so that its features are among those searched.
    """
    examples = search.examples
    known, features = context.remember(
        examples.size, _extract_known, context, extractor, examples, search.held_out
    )
    new = _exclude(search.fake.indices, known)
    if len(new):
        features = _join(features, extract_features(examples[new], extractor, "nearest images"))
    candidates = torch.cat((known, new))
    return _Search(
        examples,
        search.queries,
        fake=_rename(
            nearest_by_features(fake, features, min(_NEIGHBORS, len(features))), candidates
        ),
        held_out=_search_real_features(context, extractor, examples, features, candidates),
    )


def _search_real_features(
    context: Context,
    extractor: Extractor,
    examples: TrainingExamples,
    features: Features,
    candidates: Tensor,
) -> Neighbors:
    """Searches by features as `_search_real` does by pixels."""
    if len(context.held_out):
        held_out = context.held_out_features(examples.size, extractor)
        held_out = held_out[torch.arange(min(context.counts.neighbor_queries, len(held_out)))]
        return _rename(nearest_by_features(held_out, features, 1), candidates)
    own = _choose_training_images(context, examples)
    queries = context.training_features(examples.size, extractor)[own]
    found = nearest_by_features(queries, features, min(examples.variants + 1, len(features)))
    return _drop_own(_rename(found, candidates), own, examples)


def _extract_known(
    context: Context, extractor: Extractor, examples: TrainingExamples, held_out: Neighbors
) -> tuple[Tensor, Features]:
    """Returns the examples that are searched for every model, and their features."""
    features = context.training_features(examples.size, extractor)
    represented = examples.represent(len(features))
    near = _exclude(held_out.indices, represented)
    if len(near):
        features = _join(features, extract_features(examples[near], extractor, "nearest images"))
    return torch.cat((represented, near)), features


def _exclude(examples: Tensor, known: Tensor) -> Int64[Tensor, " n"]:
    """Returns the examples that are not among the known ones, each once."""
    return torch.from_numpy(np.setdiff1d(examples.numpy(), known.numpy()))


def _join(a: Features, b: Features) -> Features:
    return Features(torch.cat((a.values, b.values)), a.extractor)


def _rename(neighbors: Neighbors, examples: Tensor) -> Neighbors:
    """Returns neighbors among some examples as neighbors among all."""
    return replace(neighbors, indices=examples[neighbors.indices])


def _report(context: Context, model: EvaluatedModel, search: _Search) -> Iterator[Measurement]:
    result, examples = compare_neighbors(search.fake, search.held_out), search.examples
    details: dict[str, Detail] = {
        "searched": result.n_train,
        "training_examples": len(context.training) * examples.variants,
        "held_out_images": min(result.n_held_out, len(context.held_out)),
        "training_images_among_others": 0 if len(context.held_out) else result.n_held_out,
    }
    for name, value, error in (
        ("nearest-neighbour ratio", result.ratio, None),
        ("copies", result.copies, result.copies_error),
    ):
        yield Measurement(
            subject=model.name,
            metric=f"{name} by {result.space}",
            value=value,
            error=error,
            n=result.n_fake,
            seed=context.seed,
            section=METRIC.section.name,
            details=details,
        )


def _draw(
    context: Context,
    model: EvaluatedModel,
    extractor: Extractor,
    by_pixels: _Search,
    by_features: _Search,
) -> Picture:
    n = len(by_pixels.queries)
    rows = torch.linspace(0, n - 1, min(_ROWS, n)).long()
    examples = by_pixels.examples
    picture = arrange_neighbors(
        by_pixels.queries[rows],
        examples[by_pixels.fake.indices[rows]],
        examples[by_features.fake.indices[rows]],
    )
    caption = (
        f"{model.name}: generated images (left), their nearest training images by pixels (middle) "
        f"and by {extractor.name} features (right)"
    )
    return Picture(caption, encode_png(picture, zoom=2))


METRIC = Metric("neighbours", SCORES, _measure, needs="features")
