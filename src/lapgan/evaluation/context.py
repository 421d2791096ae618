"""What metrics measure with: models, real images and features, each computed once."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.compute import Compute, choose_compute
from lapgan.data import Images, NoSplitError, hold_out_images, open_images
from lapgan.distributed import sharing_ranks
from lapgan.errors import LapganError
from lapgan.evaluation.config import (
    DEFAULT,
    SCALES,
    EvaluationConfig,
    SampleCounts,
    Scale,
    choose_name,
)
from lapgan.evaluation.features.extract import (
    DIMENSIONS,
    Extractor,
    ExtractorName,
    Features,
    extract_features,
    load_extractor,
    read_real_features,
)
from lapgan.evaluation.real import RealImages, shuffle_classes
from lapgan.files import resolve_data_path
from lapgan.progress import tracked
from lapgan.run_folder import is_model_path
from lapgan.sizes import Size
from lapgan.weights import pretrained_names

__all__ = ["Context", "EvaluatedModel", "open_context", "open_model"]

# A quarter of them is what widths are chosen on.
_LEAST_HELD_OUT = 4
_log = logging.getLogger("lapgan.evaluation")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class EvaluatedModel:
    """A model and its name.

    Args:
        name: in tables and figures.
        cascade: the model, if it is a cascade.
        source: otherwise the images that it generated.
    """

    name: str
    cascade: Cascade | None = None
    source: Images | None = None

    @property
    def size(self) -> Size:
        """Height and width of its images."""
        if self.cascade is not None:
            return self.cascade.sizes[0]
        assert self.source is not None
        return self.source.size

    @property
    def pyramid(self) -> Cascade | None:
        """The cascade, if there is one and it has more than one level."""
        return self.cascade if self.cascade and len(self.cascade.levels) > 1 else None

    def sample(self, n: int, seed: int) -> UInt8[Tensor, "n 3 h w"]:
        """Returns n images: sampled, with all classes in equal numbers, or drawn from the source.

        Raises:
            LapganError: the source has fewer.
        """
        if self.cascade is not None:
            blocks = tracked(
                self.cascade.stream(n, seed),
                f"samples of {self.name}",
                -(-n // BLOCK),
                enabled=None if sharing_ranks().is_main else False,
            )
            return torch.cat(list(blocks))
        self.check_count(n)
        assert self.source is not None
        # Not the first: class folders come class by class.
        chosen = np.random.default_rng(seed).permutation(len(self.source))[:n]
        return torch.from_numpy(np.array(self.source.pixels[np.sort(chosen)]))

    def check_count(self, n: int) -> None:
        """Raises a LapganError if the source has fewer than n images."""
        if self.source is not None and len(self.source) < n:
            raise LapganError(
                f"{self.name}: has {len(self.source)} images, {n} are needed; give more, or lower "
                "--images."
            )

    def labels(self, n: int) -> Int64[Tensor, " n"] | None:
        """Returns the classes of `sample(n, ...)`, or None without classes."""
        return None if self.cascade is None else self.cascade.labels(n)


@dataclass(frozen=True, eq=False)
class Context:
    """What metrics measure with.

    Images and features are remembered until `forget` is called, since those of all models together
    may not fit into memory.

    Args:
        models: what is evaluated.
        training: what the models were trained on.
        held_out: images of the same kind that they were not trained on; none if there are none.
        counts: how many images to use.
        scale: of the pixels, for the Parzen log-likelihood.
        extractor_names: nets for features.
        inception_weights: the file of Inception's weights; downloaded if None.
        seed: of samples and scores.
    """

    models: Sequence[EvaluatedModel]
    training: Images
    held_out: Images
    counts: SampleCounts = DEFAULT
    scale: Scale = "standardised"
    extractor_names: Sequence[ExtractorName] = ("lite0",)
    inception_weights: Path | None = None
    seed: int = 0
    _memory: dict[Hashable, dict[Hashable, Any]] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def extractors(self) -> list[Extractor]:
        """The nets for features, loaded when they are first used."""
        return [
            load_extractor(name, weights=self.inception_weights) for name in self.extractor_names
        ]

    def remember(
        self,
        owner: Size | EvaluatedModel,
        compute: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Returns `compute(*args, **kwargs)`, computed once until `forget(owner)`.

        Args:
            owner: the model, or the size of models, that the result belongs to.
            compute: a function.
            args: its arguments, which must be hashable.
            kwargs: its keyword arguments, likewise.
        """
        results = self._memory.setdefault(owner, {})
        key = (compute, args, *kwargs.items())
        if key not in results:
            results[key] = compute(*args, **kwargs)
        result: _T = results[key]
        return result

    def forget(self, owner: Size | EvaluatedModel) -> None:
        """Frees what is remembered for a model or a size."""
        self._memory.pop(owner, None)

    def real(self, size: Size) -> RealImages:
        """Returns the real images at the size of a model."""
        return RealImages(self.training, self.held_out, size)

    def samples(self, model: EvaluatedModel) -> UInt8[Tensor, "n 3 h w"]:
        """Returns the images of a model that its scores are computed on."""
        return self.remember(model, model.sample, self.counts.samples, self.seed)

    def features(self, model: EvaluatedModel, extractor: Extractor) -> Features:
        """Returns the features of `samples`."""
        return self.remember(model, self._extract, model, extractor)

    def _extract(self, model: EvaluatedModel, extractor: Extractor) -> Features:
        return extract_features(self.samples(model), extractor, model.name)

    def training_features(self, size: Size, extractor: Extractor) -> Features:
        """Returns the features of the training images that represent the distribution."""
        return self.remember(
            size, read_real_features, self.training, range(self.counts.samples), extractor,
            size=size,
        )  # fmt: skip

    def held_out_features(self, size: Size, extractor: Extractor) -> Features:
        """Returns the features of as many held-out images as are generated, or of all."""
        n = min(self.counts.samples, len(self.held_out))
        return self.remember(
            size, read_real_features, self.held_out, range(n), extractor, size=size
        )

    def check(self) -> None:
        """Checks models and data against each other before any slow work starts.

        Raises:
            LapganError: two models have one name, sizes do not fit, or there are too few images.
        """
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise LapganError(
                    f"{name}: two models have this name; tell them apart by NAME=PATH."
                )
        for model in self.models:
            self._check_crops(model)
            model.check_count(self.counts.samples)
        if len(self.training) < self.counts.samples:
            raise LapganError(
                f"{self.training.name}: {len(self.training)} training images, expected at least "
                f"{self.counts.samples} to compare as many generated ones with; lower --images."
            )
        if 0 < len(self.held_out) < _LEAST_HELD_OUT:
            raise LapganError(
                f"{self.held_out.name}: {len(self.held_out)} held-out images, expected at least "
                f"{_LEAST_HELD_OUT}; put more into the split 'test'."
            )

    def _check_crops(self, model: EvaluatedModel) -> None:
        cropped = self.real(model.size).cropped
        if cropped and model.cascade and model.cascade.recipe.data.crop != "corners":
            raise LapganError(
                f"{model.name}: generates images of another size than those of "
                f"{self.training.name}, and its recipe takes no crops. Give the data that it was "
                "trained on."
            )


def open_context(config: EvaluationConfig) -> Context:
    """Opens the models and data that a user named.

    Raises:
        LapganError: a name is unknown, or something cannot be opened.
    """
    usual = ("lite0",) if config.inception_weights is None else ("lite0", "inception")
    extractors = [
        choose_name("--extractor", name, tuple(DIMENSIONS)) for name in config.extractors or usual
    ]
    scale = choose_name("--scale", config.scale, SCALES)
    compute = choose_compute(config.device, config.precision)
    models = [open_model(model, compute, config.best_of) for model in config.models]
    training, held_out = map(shuffle_classes, _open_parts(config.data, models))
    return Context(
        models=models,
        training=training,
        held_out=held_out,
        counts=_limit_counts(config, models, training, held_out),
        scale=scale,
        extractor_names=extractors,
        inception_weights=config.inception_weights,
        seed=config.seed,
    )


def _open_parts(data: str, models: Sequence[EvaluatedModel]) -> tuple[Images, Images]:
    """Opens the training images and those of the split `test`.

    Without such a split the held-out images are those that all models held out from training, if
    they did.
    """
    counts = {model.cascade.recipe.data.hold_out for model in models if model.cascade} or {0}
    images = open_images(data)
    try:
        return hold_out_images(images, min(counts))[0], open_images(data, split="test")
    except NoSplitError:
        return hold_out_images(images, counts.pop() if len(counts) == 1 else 0)


def _limit_counts(
    config: EvaluationConfig,
    models: Sequence[EvaluatedModel],
    training: Images,
    held_out: Images,
) -> SampleCounts:
    """Returns the numbers of images, and says so where there are fewer than the default."""
    sources = [model.source for model in models if model.source is not None]
    counts = config.limit_counts(len(training), len(held_out), *map(len, sources))
    if config.images is None and counts.samples < config.counts.samples:
        fewest = min((training, *sources), key=len)
        _log.warning(
            "%s has %s images, so %s images per model are compared instead of %s.",
            fewest.name,
            *(f"{n:,}" for n in (len(fewest), counts.samples, config.counts.samples)),
        )
    return counts


def open_model(text: str, compute: Compute, best_of: int = 1) -> EvaluatedModel:
    """Opens `PATH` or `NAME=PATH`: a run folder, a weights file or name, or a source of images.

    Args:
        text: what to open.
        compute: where a cascade runs.
        best_of: how many candidates a cascade generates for each image; see `Cascade.best_of`.

    Raises:
        LapganError: there is nothing of that kind, or the cascade has no classifier to choose by.
    """
    name, text = _split_name(text)
    path = resolve_data_path(text)
    if path.suffix == ".safetensors" or is_model_path(path) or text in pretrained_names():
        suffix = f" (best of {best_of})" if best_of > 1 else ""
        cascade = Cascade.load(path, compute).best_of(best_of)
        return EvaluatedModel((name or path.stem) + suffix, cascade=cascade)
    return EvaluatedModel(name or path.name, source=open_images(text))


def _split_name(text: str) -> tuple[str, str]:
    """Splits `NAME=PATH` at the first "=", unless the whole is the path of something."""
    if resolve_data_path(text).exists():
        return "", text
    name, equals, path = text.partition("=")
    return (name, path) if equals else ("", text)
