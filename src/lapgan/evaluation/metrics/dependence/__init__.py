"""Dependence on the level below."""

from collections.abc import Iterator

from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import HELD_OUT, Estimate, Measurement
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.metrics.dependence.diversity import Diversity
from lapgan.evaluation.metrics.dependence.measure import (
    LevelDependence,
    check_counts,
    measure_dependence,
)
from lapgan.evaluation.metrics.dependence.ties import Relation, Tie
from lapgan.evaluation.sections import ReportSection, tabulate_beside_real
from lapgan.sizes import size_text

__all__ = ["METRIC"]

# Subject, name, estimate, unit.
_Value = tuple[str, str, Estimate, str]


def _check(context: Context) -> None:
    if any(model.pyramid is not None for model in context.models):
        check_counts(len(context.held_out), context.counts.pairs, context.counts.critic)


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    if model.pyramid is None:
        return
    counts = context.counts
    held_out = context.real(model.size).test(len(context.held_out))
    for level in measure_dependence(
        model.pyramid, held_out, counts.pairs, counts.critic, context.seed
    ):
        for subject, name, estimate, unit in _values(model.name, level):
            yield estimate.report(
                subject=subject,
                metric=f"{name} at {size_text(level.size)}",
                section=SECTION.name,
                seed=context.seed,
                unit=unit,
                details={"model": model.name},
            )


def _values(model: str, level: LevelDependence) -> Iterator[_Value]:
    yield from _tie_values(model, level.generated)
    yield from _tie_values(HELD_OUT, level.real)
    yield from _diversity_values(model, level.diversity)


def _tie_values(subject: str, tie: Tie) -> Iterator[_Value]:
    fidelity = tie.fidelity
    yield subject, "distance to the level below", fidelity.own, "grey levels"
    yield subject, "distance to another level below", fidelity.shuffled, "grey levels"
    yield subject, "distance of a residual of zero", fidelity.interpolated, "grey levels"
    yield subject, "distance ratio", fidelity.ratio, ""
    yield from _relation_values(subject, "image", tie.image)
    yield from _relation_values(subject, "detail", tie.detail)


def _relation_values(subject: str, what: str, relation: Relation) -> Iterator[_Value]:
    for whole, information in ((what, relation.whole), (f"patch of {what}", relation.local)):
        yield subject, f"critic's accuracy on {whole}", information.accuracy, ""
        yield subject, f"information in {whole}", information.mutual_information, "bits"


def _diversity_values(model: str, diversity: Diversity) -> Iterator[_Value]:
    std = "standard deviation of the residual"
    yield model, std, diversity.overall, "grey levels"
    yield HELD_OUT, std, diversity.real, "grey levels"
    yield model, f"{std} given the level below", diversity.given_low, "grey levels"
    yield model, "fraction of noise in the residual", diversity.noise_fraction, ""


SECTION = ReportSection(
    name="dependence",
    title="Dependence on the level below",
    introduction=(
        "Does a low-resolution parrot become a high-resolution parrot? The distance between a "
        "level's downsampled image and the image of the level below (ratio 0: it is preserved, 1: "
        "it has no influence); the fraction of a residual's variance that comes from the noise and "
        "not from the level below (0: the noise is ignored); and the values of critics that tell "
        "true pairs from shuffled ones, whole and in patches. Information in the image is 0 if the "
        "level ignores the one below; information in the detail, which only this level has, is 0 "
        "if the detail might as well belong to another image. Real images are in the columns "
        "beside the model's."
    ),
    tabulate=tabulate_beside_real,
    note=(
        "± is the standard error. The information is a lower bound, which longer training of the "
        "critic would raise."
    ),
)
METRIC = Metric("dependence", SECTION, _measure, check=_check, uses_held_out=True)
