"""Bounds of the entropy of each level, beside the noise that the model has."""

from collections.abc import Iterator

from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import HELD_OUT, Detail, Estimate, Measurement
from lapgan.evaluation.metrics.base import Metric, only_when_named
from lapgan.evaluation.metrics.entropy.levels import EntropyConfig, LevelEntropy, measure_entropy
from lapgan.evaluation.sections import (
    COUNT_COLUMN,
    ERROR_COLUMN,
    Column,
    ReportSection,
    format_number,
    tabulate_by_metric,
)
from lapgan.sizes import size_text

__all__ = ["METRIC"]


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    if model.cascade is None:
        return
    counts = context.counts
    config = EntropyConfig.of_recipe(
        model.cascade.recipe, counts.entropy_minutes, counts.entropy, context.seed
    )
    for level in measure_entropy(context.training, context.held_out, config).levels:
        yield _report_bound(context, model, level)
        yield from _report_noise(context, model, level)


def _report_bound(context: Context, model: EvaluatedModel, level: LevelEntropy) -> Measurement:
    details: dict[str, Detail] = {
        "model": model.name,
        "learned": level.learned,
        "coder": level.coder,
        "coder_bits": level.standard,
        "minutes": level.minutes,
    }
    return Estimate(level.bits, level.standard_error, level.n).report(
        subject=HELD_OUT,
        metric=f"entropy {level.name}",
        section=SECTION.name,
        seed=context.seed,
        unit="bits per pixel, at most",
        details=details,
    )


def _report_noise(
    context: Context, model: EvaluatedModel, level: LevelEntropy
) -> Iterator[Measurement]:
    size = size_text(level.size)
    for metric, value, unit in (
        (f"noise at {size}", level.noise, "bits per pixel"),
        (f"unused noise at {size}", level.unused, "fraction, at least"),
    ):
        if value is not None:
            yield Measurement(
                subject=model.name,
                metric=metric,
                value=value,
                error=None,
                n=level.n,
                seed=context.seed,
                section=SECTION.name,
                unit=unit,
                details={"model": model.name},
            )


SECTION = ReportSection(
    name="entropy",
    title="How much noise a level needs",
    introduction=(
        "A generator can have no more entropy than its noise, so what I_k adds to I_{k+1} in real "
        "images, H[I_k | I_{k+1}], must come from z_k. The entropies are upper bounds in bits per "
        "pixel of their own level: the length of a lossless code for a reader who has the level "
        "below. If they fall from one level to the finer one, the entropy per pixel falls as "
        "resolution grows. Noise beyond them is unused."
    ),
    tabulate=tabulate_by_metric(
        Column("of", lambda m: m.subject, left=True),
        Column("value", lambda m: format_number(m.value, 3)),
        ERROR_COLUMN,
        Column("unit", lambda m: m.unit, left=True),
        COUNT_COLUMN,
    ),
)
# The entropy is one of the data, not of models, and takes minutes.
METRIC = Metric("entropy", SECTION, _measure, is_usual=only_when_named, uses_held_out=True)
