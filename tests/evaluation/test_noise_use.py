"""Bounds of the bits of noise that a level shows, where these can be counted."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.config import SampleCounts
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.metrics.noise_use import METRIC, measure_noise_use
from lapgan.noise import AnyNoise, HashedNoise, LowRankNoise, PlaneNoise, VectorNoise
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe

SIZE = (4, 4)
# In the scale of the nets, of 32 grey levels: a uniform value then shows one of about 64 of them.
AMPLITUDE = 32 / 127.5


class Show(nn.Module):
    """A generator that shows its noise in so many values of the image, scaled."""

    def __init__(self, shown: int, amplitude: float) -> None:
        super().__init__()
        self.shown, self.amplitude = shown, amplitude

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        assert low is not None
        high = torch.zeros_like(low).flatten(1)
        high[:, : self.shown] = self.amplitude * z.flatten(1)[:, : self.shown]
        return high.view_as(low)


class Gray(nn.Module):
    """A generator of gray images, at the coarsest level."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return torch.zeros(len(z), 3, 2, 2)


def no_images() -> Images:
    return Images(np.zeros((0, 3, *SIZE), np.uint8), None, (), "none", "")


def cascade_of(tiny: Recipe, noise: AnyNoise, generator: nn.Module) -> Cascade:
    levels = [Level(SIZE, noise, generator), Level((2, 2), VectorNoise(), nn.Identity())]
    return Cascade(tiny, levels, symmetric_normalization(SIZE))


LOW = torch.linspace(-0.3, 0.3, 2 * 48).view(2, 3, *SIZE)


@pytest.mark.parametrize("shown", [0, 5, 16])
def test_the_bounds_enclose_the_bits_that_are_shown(tiny: Recipe, shown: int):
    """A value of 64 equally likely grey levels has 6 bits.

    Rounding errs by 1 / (32 sqrt 12), so the lower bound is 1 - log2(2 pi e / 12 / 32^2) / 2 = 5.75
    per value, and the upper one log2(2 pi e (32^2 / 3 + 1 / 12)) / 2 = 6.25, or 0.25 for values
    that do not vary.
    """
    use = measure_noise_use(cascade_of(tiny, PlaneNoise(), Show(shown, AMPLITUDE)), 0, LOW)
    slack = 0.5 * math.log2(2 * math.pi * math.e / 12)
    assert use.entropy == 16 * 24
    assert use.lower.value == pytest.approx(shown * (6 - slack), abs=0.02 * shown + 1e-6)
    assert use.upper.value == pytest.approx(shown * 6 + 48 * slack, abs=0.02 * shown + 0.01)
    assert use.dimension.value == pytest.approx(shown, rel=0.01)


@pytest.mark.parametrize(
    ("noise", "rank"),
    [(HashedNoise(dimension=3), 3), (LowRankNoise(rank=3), 3), (PlaneNoise(), 16)],
)
def test_dependent_pixels_show_the_bits_of_their_values_alone(
    tiny: Recipe, noise: AnyNoise, rank: int
):
    use = measure_noise_use(cascade_of(tiny, noise, Show(16, AMPLITUDE)), 0, LOW)
    # No value shows less than one pixel of it, and all 16 pixels of it less than 2 bits more.
    assert rank * 5.5 < use.lower.value < use.upper.value
    assert use.lower.value < rank * 8
    assert use.dimension.value == pytest.approx(noise.effective_dimension(SIZE), rel=0.05)


def test_normal_noise_shows_more_than_uniform_noise_of_the_same_range(tiny: Recipe):
    """A normal value has the largest entropy of its variance: both bounds come together."""
    noise = PlaneNoise(distribution="normal")
    use = measure_noise_use(cascade_of(tiny, noise, Show(16, AMPLITUDE / 4)), 0, LOW)
    signal = 0.5 * math.log2(1 + 8**2 * 12)
    assert use.lower.value == pytest.approx(16 * signal, rel=0.02)
    assert use.upper.value - 48 * 0.2546 == pytest.approx(16 * signal, rel=0.02)


def test_a_level_with_conditioning_noise_is_told_how_much(tiny: Recipe):
    class Told(Show):
        def forward(self, low, z, label, sigma):
            assert torch.equal(sigma, torch.full((len(z), 1), 0.5))
            return super().forward(low, z, label)

    cascade = cascade_of(tiny, PlaneNoise(), Told(5, AMPLITUDE))
    levels = [replace(cascade.levels[0], sigma=0.5), cascade.levels[1]]
    told = Cascade(tiny, levels, symmetric_normalization(SIZE))
    plain = cascade_of(tiny, PlaneNoise(), Show(5, AMPLITUDE))
    assert measure_noise_use(told, 0, LOW, draws=256) == measure_noise_use(plain, 0, LOW, draws=256)


def test_wrong_sizes_and_too_few_draws_are_refused(tiny: Recipe):
    cascade = cascade_of(tiny, PlaneNoise(), Show(16, AMPLITUDE))
    with pytest.raises(LapganError, match=r"low-pass images of 5x5, expected some of 4x4"):
        measure_noise_use(cascade, 0, torch.zeros(1, 3, 5, 5))
    with pytest.raises(LapganError, match="100 draws are too few; give at least 256"):
        measure_noise_use(cascade, 0, LOW, draws=100)


def test_an_evaluation_measures_the_levels_that_it_has_draws_for(
    tiny: Recipe, caplog: pytest.LogCaptureFixture
):
    cascade = cascade_of(tiny, PlaneNoise(), Show(5, AMPLITUDE))
    levels = [cascade.levels[0], replace(cascade.levels[1], generator=Gray())]
    cascade = Cascade(tiny, levels, symmetric_normalization(SIZE))
    model, nothing = EvaluatedModel("tiny", cascade=cascade), no_images()
    counts = SampleCounts(noise_images=2, noise_draws=1024)
    found = list(METRIC.measure(Context([model], nothing, nothing, counts), model))
    values = {m.metric: (m.value, m.n) for m in found}
    assert values["bits of noise at 4x4"] == (16 * 24, 2)
    assert values["directions at 4x4"] == (pytest.approx(5, rel=0.05), 2)
    low, high = (values[f"{end} bound of bits shown at 4x4"][0] for end in ("lower", "upper"))
    assert 5 * 5 < low < 5 * 6 < high
    few = Context([model], nothing, nothing, replace(counts, noise_draws=47))
    assert not list(METRIC.measure(few, model))
    assert "tiny at 4x4 is left out: its images have more values than the 47 draws" in caplog.text
