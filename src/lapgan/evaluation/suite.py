"""Runs an evaluation: every metric of every model, and the references that stand beside them."""

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lapgan.distributed import (
    current_ranks,
    join_ranks,
    main_rank_first,
    share_work,
    wait_for_ranks,
)
from lapgan.errors import LapganError
from lapgan.evaluation.config import EvaluationConfig
from lapgan.evaluation.context import Context, EvaluatedModel, open_context
from lapgan.evaluation.measurement import HELD_OUT, TRAINING, Measurement, Picture
from lapgan.evaluation.metrics import find_metrics, load_metrics
from lapgan.evaluation.metrics.base import Metric, Need
from lapgan.pictures import encode_png, sheet
from lapgan.sizes import Size

__all__ = ["Evaluation", "choose_usual_metrics", "evaluate", "evaluate_models"]

# Samples of each model in the report's picture.
_SHOWN = 64
_log = logging.getLogger("lapgan.evaluation")

Callback = Callable[[Measurement], None]


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Args:
        measurements: in the order in which they were made.
        pictures: samples, and their nearest training images.
        settings: what was measured and how, for the record.
        versions: of the programs.
    """

    measurements: list[Measurement]
    pictures: list[Picture]
    settings: dict[str, Any]
    versions: dict[str, str]


def evaluate(config: EvaluationConfig, callback: Callback = lambda measurement: None) -> Evaluation:
    """Measures how good models are.

    Every metric is computed for every model, and for references such as held-out real images. What
    cannot work is refused before any slow work starts.

    Started by `torchrun`, every process calls this: together they generate the samples and extract
    the features, and the first of them does everything else.

    >>> config = lapgan.EvaluationConfig(
    ...     ["cifar10-uncond"], "dead-leaves:60", metrics=["parzen"], images=24
    ... )
    >>> [measurement.subject for measurement in lapgan.evaluate(config).measurements]
    ['real training images', 'k-means centroids', 'cifar10-uncond']

    Args:
        config: which models, on what data, by which metrics, on how many images.
        callback: called with each measurement as soon as it is made.

    Returns:
        all measurements; `lapgan.evaluation.report.write_report` makes a page of them. Every rank
        but the first has none.

    Raises:
        LapganError: a name is unknown, something cannot be opened, or the models, the data and the
            numbers of images do not fit together.
    """
    with join_ranks(config.device):
        with main_rank_first():
            metrics = find_metrics(config.metrics or ())
            context = open_context(config)
        evaluation = evaluate_models(context, metrics or choose_usual_metrics(context), callback)
        wait_for_ranks()
    return evaluation


def choose_usual_metrics(context: Context) -> list[Metric]:
    """Returns the metrics that are measured when the user names none, of those that can be.

    What else is usual and cannot be measured is told on the log `lapgan.evaluation`.
    """
    chosen = []
    for metric in load_metrics():
        if metric.is_usual(context):
            try:
                _check_metric(context, metric)
                chosen.append(metric)
            except LapganError as error:
                _log.warning("%s is left out: %s", metric.name, error)
    return chosen


def evaluate_models(
    context: Context, metrics: Sequence[Metric], callback: Callback = lambda measurement: None
) -> Evaluation:
    """Measures models that are already open; see `evaluate`."""
    with main_rank_first():
        _check(context, metrics)
    measurements: list[Measurement] = []
    pictures: list[Picture] = []
    for item in _measure(context, metrics):
        if isinstance(item, Picture):
            pictures.append(item)
        else:
            measurements.append(item)
            callback(item)
    return Evaluation(measurements, pictures, _describe(context, metrics), _list_versions())


def _check(context: Context, metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        _check_metric(context, metric)
    context.check()
    if _need(metrics, "features"):
        assert context.extractors  # loaded here, so that missing weights are noticed at once


def _check_metric(context: Context, metric: Metric) -> None:
    if metric.uses_held_out and not len(context.held_out):
        raise LapganError(
            f"{metric.name}: needs held-out images, but {context.held_out.name} has no split "
            "'test'. Keep some from training with `lapgan prepare --hold-out N`, or name other "
            "--metrics."
        )
    metric.check(context)


def _measure(context: Context, metrics: Sequence[Metric]) -> Iterator[Measurement | Picture]:
    """Measures the models of each size, after their references.

    Of several ranks the first alone measures, what all of them have prepared.
    """
    is_main = current_ranks().is_main
    for size in dict.fromkeys(model.size for model in context.models):
        _prepare_real(context, metrics, size)
        if is_main:
            yield _draw_real(context, size)
            for metric in metrics:
                yield from metric.measure_references(context, size)
        for model in context.models:
            if model.size == size:
                _prepare_samples(context, metrics, model)
                if is_main:
                    yield _draw_samples(context, metrics, model)
                    for metric in metrics:
                        yield from metric.measure(context, model)
                context.forget(model)
        context.forget(size)


def _prepare_real(context: Context, metrics: Sequence[Metric], size: Size) -> None:
    """Extracts, over several ranks, the features of real images that metrics will ask for."""
    if current_ranks().size == 1 or not _need(metrics, "features"):
        return
    with share_work():
        for extractor in context.extractors:
            context.training_features(size, extractor)
            # Of fewer images no scores are computed; the first rank extracts what else it needs.
            if len(context.held_out) >= context.counts.samples:
                context.held_out_features(size, extractor)


def _prepare_samples(context: Context, metrics: Sequence[Metric], model: EvaluatedModel) -> None:
    """Generates, over several ranks, samples and features that metrics will ask for."""
    if current_ranks().size == 1 or not _need(metrics, "samples", "features"):
        return
    with share_work():
        context.samples(model)
        if _need(metrics, "features"):
            for extractor in context.extractors:
                context.features(model, extractor)


def _need(metrics: Sequence[Metric], *needs: Need) -> bool:
    return any(metric.needs in needs for metric in metrics)


def _draw_real(context: Context, size: Size) -> Picture:
    """Draws held-out images, or else training images, to be seen beside the samples."""
    real = context.real(size)
    if n := min(_SHOWN, len(context.held_out)):
        return Picture(f"{HELD_OUT}: {n}", encode_png(sheet(real.test(n)), zoom=2))
    n = min(_SHOWN, len(context.training))
    return Picture(f"{TRAINING}: {n}", encode_png(sheet(real.train(n)), zoom=2))


def _draw_samples(context: Context, metrics: Sequence[Metric], model: EvaluatedModel) -> Picture:
    """Draws some of a model's samples, of as few as the metrics need."""
    few = not _need(metrics, "samples", "features")
    shown = min(_SHOWN, context.counts.samples)
    images = model.sample(shown, context.seed) if few else context.samples(model)
    chosen = torch.linspace(0, len(images) - 1, shown).long()
    caption = f"{model.name}: {shown} of {_describe_images(context, model)}"
    return Picture(caption, encode_png(sheet(images[chosen]), zoom=2))


def _describe_images(context: Context, model: EvaluatedModel) -> str:
    """Returns what a model's images are, and which of them were taken."""
    used = context.counts.samples
    if model.source is None:
        return f"{used:,} samples, seed {context.seed}"
    n = len(model.source)
    return (
        f"{used:,} of {n:,} images, drawn by seed {context.seed}" if used < n else f"{n:,} images"
    )


def _describe(context: Context, metrics: Sequence[Metric]) -> dict[str, Any]:
    return {
        "models": [model.name for model in context.models],
        "images": [_describe_images(context, model) for model in context.models],
        "training_data": context.training.name,
        "training_fingerprint": context.training.fingerprint,
        "held_out_fingerprint": context.held_out.fingerprint,
        "metrics": [metric.name for metric in metrics],
        "counts": asdict(context.counts),
        "scale": context.scale,
        "extractors": list(context.extractor_names),
        "seed": context.seed,
    }


def _list_versions() -> dict[str, str]:
    packages = ("lapgan", "torch", "torchvision", "torch-fidelity", "scikit-learn", "numpy")
    return {name: _find_version(name) for name in packages} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
