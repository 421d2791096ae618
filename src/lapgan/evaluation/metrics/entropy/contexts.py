"""The contexts of single pixels: what a density is conditioned on.

The context of pixel i is a window of I_k before it in raster order and a window of I_{k+1} around
it, which covers its future too. Masked convolutions (van den Oord et al., 2016) would see the same;
here the windows are gathered instead and the rest of the net works on single pixels, so that a
minibatch holds pixels of as many images.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from lapgan.sizes import Size

__all__ = ["Contexts", "LevelImages", "Window", "draw_pixels"]

# The contrast is that of the known neighbors and of one more, with a variance of this.
PRIOR = 100.0
# More places of a pixel within a coarse one than this share one linear prediction.
MAX_CELLS = 64


@dataclass(frozen=True)
class LevelImages:
    """The images of one level, and those of the next coarser one; None at the coarsest."""

    fine: UInt8[Tensor, "n 3 h w"]
    coarse: UInt8[Tensor, "n 3 H W"] | None

    def __len__(self) -> int:
        return len(self.fine)

    @property
    def size(self) -> Size:
        """Height and width of the level."""
        return self.fine.shape[2], self.fine.shape[3]


@dataclass(frozen=True)
class Contexts:
    """The contexts of some pixels, and their colors.

    Args:
        features: φ.
        cells: which of the linear predictions applies.
        contrast: root mean square of the context's differences from the reference, in grey levels.
        reference: the coarse pixel they lie in; the pixel before them at the coarsest level.
        colors: x, 0 to 255.
    """

    features: Float[Tensor, "b f"]
    cells: Int64[Tensor, " b"]
    contrast: Float[Tensor, " b"]
    reference: Float[Tensor, "b 3"]
    colors: Float[Tensor, "b 3"]


class Window(nn.Module):
    """Gathers the contexts of single pixels.

    Args:
        size: height and width of the level.
        coarse: height and width of the next coarser level; None at the coarsest.
        mean: mean color, which takes the place of the pixel before the first.
    """

    mean: Tensor

    def __init__(self, size: Size, coarse: Size | None, mean: Tensor) -> None:
        super().__init__()
        self.size = size
        radius = 3 if coarse else min(5, max(size) - 1)
        square = [(y, x) for y in range(-radius, 1) for x in range(-radius, radius + 1)]
        self.before = [offset for offset in square if offset < (0, 0)]
        self.around = [(y, x) for y in range(-3, 4) for x in range(-3, 4)] if coarse else []
        self.periods = _periods(size, coarse)
        self.register_buffer("mean", mean)

    @property
    def cells(self) -> int:
        """The number of places of a fine pixel within a coarse one with a prediction each."""
        return self.periods[0] * self.periods[1]

    @property
    def width(self) -> int:
        """The number of features of a context."""
        return 4 * len(self.before) + 3 * len(self.around) + 5

    def forward(self, level: LevelImages, n: Tensor, y: Tensor, x: Tensor) -> Contexts:
        """Returns the contexts of the pixels at row y and column x of images n."""
        reference, around = (
            self._around(level.coarse, n, y, x)
            if level.coarse is not None
            else (self._neighbor(level.fine, n, y, x), torch.zeros(len(n), 0, 3))
        )
        before, inside = self._before(level.fine, n, y, x, reference)
        differences = torch.cat([before.flatten(1), around.flatten(1)], dim=1)
        count = 3 * (inside.sum(dim=1) + around.shape[1])
        contrast = ((differences.square().sum(dim=1) + PRIOR) / (count + 1)).sqrt()
        features = torch.cat([
            differences / contrast[:, None],
            inside,
            (reference - 128) / 64,
            contrast.log()[:, None] / 2,
            torch.ones(len(n), 1),
        ], dim=1)  # fmt: skip
        cells = (y % self.periods[0]) * self.periods[1] + x % self.periods[1]
        return Contexts(features, cells, contrast, reference, level.fine[n, :, y, x].float())

    def _around(self, coarse: Tensor, n: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = coarse.shape[-2:]
        row = (2 * y + 1) * height // (2 * self.size[0])
        column = (2 * x + 1) * width // (2 * self.size[1])
        offsets = torch.tensor(self.around)
        rows = (row[:, None] + offsets[:, 0]).clamp(0, height - 1)
        columns = (column[:, None] + offsets[:, 1]).clamp(0, width - 1)
        reference = coarse[n, :, row, column].float()
        return reference, coarse[n[:, None], :, rows, columns].float() - reference[:, None]

    def _before(
        self, fine: Tensor, n: Tensor, y: Tensor, x: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor]:
        offsets = torch.tensor(self.before, dtype=torch.int64).view(-1, 2)
        rows, columns = y[:, None] + offsets[:, 0], x[:, None] + offsets[:, 1]
        inside = (rows >= 0) & (columns >= 0) & (columns < self.size[1])
        colors = fine[n[:, None], :, rows.clamp(min=0), columns.clamp(0, self.size[1] - 1)]
        # Outside the image a clamped index may point ahead of the pixel: nothing may be read there.
        return (colors.float() - reference[:, None]) * inside[..., None], inside.float()

    def _neighbor(self, fine: Tensor, n: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Returns the pixel to the left; above at the left edge; the mean at the first pixel."""
        left = x > 0
        row, column = torch.where(left, y, (y - 1).clamp(min=0)), (x - 1).clamp(min=0)
        exists = (left | (y > 0))[:, None]
        return torch.where(exists, fine[n, :, row, column].float(), self.mean)


def draw_pixels(
    level: LevelImages,
    count: int,
    generator: torch.Generator,
    place: tuple[int, int] = (0, 0),
    periods: tuple[int, int] = (1, 1),
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws image, row and column of pixels at `place` modulo `periods`."""
    rows, columns = (side // period for side, period in zip(level.size, periods, strict=True))
    n, y, x = (
        torch.randint(high, (count,), generator=generator) for high in (len(level), rows, columns)
    )
    return n, y * periods[0] + place[0], x * periods[1] + place[1]


def _periods(size: Size, coarse: Size | None) -> tuple[int, int]:
    """Returns after how many rows and columns the fine grid meets the coarse one again."""
    if coarse is None:
        periods = size
    else:
        periods = (size[0] // math.gcd(size[0], coarse[0]), size[1] // math.gcd(size[1], coarse[1]))
    return periods if periods[0] * periods[1] <= MAX_CELLS else (1, 1)
