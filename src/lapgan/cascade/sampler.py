"""One block of images: its noise, its candidates, its descent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from lapgan.cascade.best_of import Candidate, ClassifierGuide, keep_best
from lapgan.cascade.blocks import BLOCK, pad_block
from lapgan.cascade.levels import Level, descend
from lapgan.compute import Compute
from lapgan.models.contracts import generate
from lapgan.noise import draw_normal
from lapgan.pyramid import Operator, Stage, size_of
from lapgan.seeds import generator_of
from lapgan.sizes import Size

__all__ = ["BlockSampler"]


@dataclass(frozen=True)
class BlockSampler:
    """Generates full blocks of images.

    Args:
        levels: finest first.
        operator: u(.) of the pyramid.
        compute: where to run.
        guide: the classifier that scores candidates.
        candidates: how many to draw of each image.
        enlarged: levels that follow the finest, each twice as large as the one before.
    """

    levels: Sequence[Level]
    operator: Operator
    compute: Compute
    guide: ClassifierGuide | None
    candidates: int
    enlarged: Sequence[Level] = ()

    def run(
        self, start: Tensor | None, label: Tensor | None, key: tuple[int, int], finest: int
    ) -> list[Stage]:
        """Generates a block down to level `finest`, from noise or from coarse images.

        Args:
            start: up to 64 images in the scale of the nets, or None.
            label: as many class indices, or None.
            key: seed and number of the block.
            finest: 0 is the finest.

        Returns:
            One Stage per level, coarsest first.
        """
        start, label = self._fill(start), self._fill(label)
        stages = [] if start is None else [Stage(None, start, start)]
        if self.candidates > 1:
            stages = keep_best(self._draw_candidates(stages, label, key))
        stages = self._extend(stages, label, (*key, 0), finest)
        # The classifier's level may be finer than `finest`.
        stages = [stage for stage in stages if self._index(size_of(stage.image)) >= finest]
        return stages if finest else stages + self._enlarge(stages[-1].image, label, key)

    def residual(self, k: int, low: Tensor, label: Tensor | None, key: tuple[int, int]) -> Tensor:
        """Generates h~_k = G_k(z_k, l_k) of a full block from up to 64 low-pass images."""
        z, _ = self._draw(k, (*key, 0))
        with self.compute.autocast():
            high = generate(self.levels[k].generator, self._fill(low), z, self._fill(label))
        return high.float()

    def _draw_candidates(
        self, stages: list[Stage], label: Tensor | None, key: tuple[int, int]
    ) -> Iterator[Candidate]:
        """Yields candidates down to the classifier's level, each with its scores."""
        assert self.guide is not None
        assert label is not None
        finest = self._index(self.guide.size)
        for candidate in range(self.candidates):
            drawn = self._extend(stages, label, (*key, candidate), finest)
            yield drawn, self.guide.score(drawn[-1].image, label, self.compute)

    def _extend(
        self, stages: list[Stage], label: Tensor | None, key: tuple[int, int, int], finest: int
    ) -> list[Stage]:
        """Adds the levels down to `finest`."""
        start = stages[-1].image if stages else None
        reached = len(self.levels) if start is None else self._index(size_of(start))
        indices = list(reversed(range(finest, reached)))
        noise = [self._draw(k, key) for k in indices]
        z, epsilon = [pair[0] for pair in noise], [pair[1] for pair in noise]
        levels, autocast = [self.levels[k] for k in indices], self.compute.autocast
        return stages + descend(levels, self.operator, z, label, start, autocast, epsilon)

    def _enlarge(self, image: Tensor, label: Tensor | None, key: tuple[int, int]) -> list[Stage]:
        """Applies the levels beyond the finest; their noise has streams of its own."""
        coarser = [self.levels[0], *self.enlarged]
        noise = [
            self._draw_noise(level, below.size, (key[0], key[1], len(self.levels) + step))
            for step, (level, below) in enumerate(zip(self.enlarged, coarser, strict=False))
        ]
        z, epsilon = [pair[0] for pair in noise], [pair[1] for pair in noise]
        autocast = self.compute.autocast
        return descend(self.enlarged, self.operator, z, label, image, autocast, epsilon)

    def _draw(self, k: int, key: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
        """Draws z_k and e_k of one block and candidate, independent of all others.

        e_k is None at a level without conditioning noise; see `descend`.
        """
        seed, block, candidate = key
        stream = (seed, block, k, candidate) if candidate else (seed, block, k)
        below = self.levels[min(k + 1, len(self.levels) - 1)]
        return self._draw_noise(self.levels[k], below.size, stream)

    def _draw_noise(
        self, level: Level, below: Size, stream: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None]:
        generator = generator_of(*stream)
        z = level.noise.sample(BLOCK, level.size, generator).to(self.compute.device)
        if level.sigma is None:
            return z, None
        e = draw_normal((BLOCK, 3, *below), generator)
        return z, e.to(self.compute.device)

    def _index(self, size: Size) -> int:
        """Returns the index of the level of a size."""
        return [level.size for level in self.levels].index(size)

    def _fill(self, x: Tensor | None) -> Tensor | None:
        return None if x is None else pad_block(x).to(self.compute.device)
