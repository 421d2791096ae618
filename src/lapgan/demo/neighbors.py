"""Training images for the page: an index of few pixels each to search, and pictures to show.

The distance of two images is that of their reduced pixels, in gray levels:

    r(x)[c, i, j] = mean of channel c of x over cell (i, j), rounded to a whole number
    d(x, t) = sqrt(mean over c, i, j of (r(x)[c, i, j] - r(t)[c, i, j])^2)

Cell (i, j) of g x g cells has the rows floor(i h / g) to floor((i + 1) h / g) - 1, and its columns
likewise. A training image is as near as its nearest corner crop, and its mirror image where the
model was trained on mirror images; for these the image that is looked up is mirrored.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lapgan.batches import check_image_size
from lapgan.data import Images, corner_crops, corner_offsets
from lapgan.errors import LapganError
from lapgan.recipe import Recipe
from lapgan.sizes import Size

__all__ = ["DEFAULT_COUNT", "NeighborSearch", "measure_distances", "reduce_images"]

DEFAULT_COUNT = 10_000
# Per side; 10,000 images of 8x8 pixels in three channels are 1.8 MiB.
_CELLS = 8
# Of a sheet: about 80 KiB as PNG, whatever the size of the images.
_SHEET_PIXELS = 2**15
# The images whose distances to others are stated, and how many of them are compared at once.
_COMPARED, _AT_ONCE = 500, 50
# 500 of 3x96x96 with whole sums are 55 MB.
_REDUCED_AT_ONCE = 500
# As in `lapgan evaluate`, where images nearer than one in a hundred count as copies.
_NEAR = 0.01


@dataclass(frozen=True, eq=False)
class NeighborSearch:
    """The training images that a page searches.

    Args:
        images: what the model was trained on.
        size: height and width of what the model generates.
        count: how many of the images, evenly spaced among all; all of them if there are fewer.
        mirrored: whether mirror images are searched too.
    """

    images: Images
    size: Size
    count: int
    mirrored: bool

    @classmethod
    def of_recipe(cls, recipe: Recipe, images: Images, count: int) -> "NeighborSearch":
        """Returns the search among what a recipe trains on.

        Raises:
            LapganError: the recipe trains on images of another size, or there are fewer than two.
        """
        size, corners = recipe.sizes[0], recipe.data.crop == "corners"
        check_image_size(images.name, images.size, size, corners=corners)
        if min(count, len(images)) < 2:
            raise LapganError(
                f"{images.name}: {min(count, len(images))} training image, expected at least 2, "
                "since the page states how near they are to each other."
            )
        return cls(images, size, min(count, len(images)), recipe.data.flip)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Which images: image i of the page is image floor(i N / count) of all N."""
        return np.arange(self.count) * len(self.images) // self.count

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Top and left edges of the crops that are searched, in pixels."""
        whole = tuple(self.images.size) == tuple(self.size)
        return [(0, 0)] if whole else corner_offsets(self.images.size, self.size)

    def build_index(self) -> NDArray[np.uint8]:
        """Returns the reduced crops, uint8 (count, crops, 3, g, g)."""
        reduced = [
            np.concatenate([
                reduce_images(self._crop(self.chosen[start : start + _REDUCED_AT_ONCE], crop))
                for start in range(0, self.count, _REDUCED_AT_ONCE)
            ])
            for crop in range(len(self.offsets))
        ]  # fmt: skip
        return np.stack(reduced, axis=1)

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes `index.bin` and the sheets `0.png`, `1.png`, ... to a new folder.

        Returns:
            What the page needs to know of them: `data` (a name), `images` and `total` (numbers),
            `classes` and `labels` (empty if there are none), `size` of the images, `offsets` of
            their crops, `grid` of the reduced pixels, `mirrored`, `per_sheet`, `bytes` of the
            index, and `median` and `near`: half and a hundredth of the training images have
            another one that is nearer, in gray levels.
        """
        folder.mkdir()
        index = self.build_index()
        (folder / "index.bin").write_bytes(index.tobytes())
        height, width = self.images.size
        per_sheet = max(1, _SHEET_PIXELS // (height * width))
        for sheet, start in enumerate(range(0, self.count, per_sheet)):
            pixels = self.images.pixels[self.chosen[start : start + per_sheet]]
            strip = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).reshape(-1, width, 3)
            Image.fromarray(strip).save(folder / f"{sheet}.png")
        nearest = self._measure_nearest(index)
        labels = self.images.labels
        return {
            "data": self.images.name,
            "images": self.count,
            "total": len(self.images),
            "classes": list(self.images.class_names),
            "labels": [] if labels is None else labels[self.chosen].tolist(),
            "size": [height, width],
            "offsets": [list(offset) for offset in self.offsets],
            "grid": list(index.shape[-2:]),
            "mirrored": self.mirrored,
            "per_sheet": per_sheet,
            "bytes": index.size,
            "median": float(np.median(nearest)),
            "near": float(np.quantile(nearest, _NEAR)),
        }

    def _crop(self, images: NDArray[np.int64], crop: int) -> NDArray[np.uint8]:
        return corner_crops(self.images, images, np.full(len(images), crop), self.size)

    def _measure_nearest(self, index: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Returns the distances of some training images to their nearest other one."""
        compared = np.unique(np.linspace(0, self.count - 1, _COMPARED).astype(np.int64))
        nearest = []
        for start in range(0, len(compared), _AT_ONCE):
            own = compared[start : start + _AT_ONCE]
            distances = measure_distances(index, self._crop(self.chosen[own], 0), self.mirrored)
            distances[np.arange(len(own)), own] = np.inf
            nearest.append(distances.min(axis=1))
        return np.concatenate(nearest)


def reduce_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduces images to at most 8x8 pixels, r(x) of the module.

    Args:
        pixels: uint8 (n, 3, h, w).

    Returns:
        uint8 (n, 3, min(h, 8), min(w, 8)).
    """
    sums, sides = pixels, []
    for axis in (2, 3):
        edges = np.arange(min(pixels.shape[axis], _CELLS) + 1) * pixels.shape[axis]
        edges //= min(pixels.shape[axis], _CELLS)
        sums = np.add.reduceat(sums, edges[:-1], axis=axis, dtype=np.int32)
        sides.append(np.diff(edges))
    counts = sides[0][:, None] * sides[1]
    # Halves are rounded up, in whole numbers, as the page does.
    return ((2 * sums + counts) // (2 * counts)).astype(np.uint8)


def measure_distances(
    index: NDArray[np.uint8], pixels: NDArray[np.uint8], mirrored: bool
) -> NDArray[np.float64]:
    """Returns the distances d of images to training images, (n, count), in gray levels.

    Args:
        index: reduced crops, uint8 (count, crops, 3, g, g).
        pixels: uint8 (n, 3, h, w), of the size of the crops.
        mirrored: whether mirror images are searched too.
    """
    found = _compare(reduce_images(pixels), index)
    if mirrored:
        found = np.minimum(found, _compare(reduce_images(pixels[..., ::-1]), index))
    return found


def _compare(queries: NDArray[np.uint8], index: NDArray[np.uint8]) -> NDArray[np.float64]:
    # Sums of 192 products of bytes are below 2^24, and so exact in float32.
    x = queries.reshape(len(queries), -1).astype(np.float32)
    y = index.reshape(-1, x.shape[1]).astype(np.float32)
    products = (x @ y.T).astype(np.float64)
    squares = (x**2).sum(1, dtype=np.float64)[:, None] + (y**2).sum(1, dtype=np.float64)
    distances = np.sqrt((squares - 2 * products) / x.shape[1])
    nearest: NDArray[np.float64] = distances.reshape(len(x), *index.shape[:2]).min(axis=2)
    return nearest
