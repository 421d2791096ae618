"""Blocks of images: their noise, their candidates, their descent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lapgan.cascade.best_of import Candidate, ClassifierGuide, keep_best
from lapgan.cascade.blocks import BLOCK, pad_blocks
from lapgan.cascade.levels import Level, descend
from lapgan.compute import Compute
from lapgan.models.contracts import generate
from lapgan.pyramid import Operator, Stage, size_of
from lapgan.seeds import generator_of
from lapgan.sizes import Size

__all__ = ["BlockKey", "BlockSampler"]


@dataclass(frozen=True)
class BlockKey:
    """What the noise of full blocks is drawn from.

    Args:
        seed: of the images.
        blocks: the numbers of the blocks; each has noise of its own.
        candidate: which of several candidates of the same images.
    """

    seed: int
    blocks: range
    candidate: int = 0

    def generators(self, k: int) -> list[torch.Generator]:
        """Returns the generator of each block's noise at a level, independent of all others."""
        extra = (self.candidate,) if self.candidate else ()
        return [generator_of(self.seed, block, k, *extra) for block in self.blocks]


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
        self, start: Tensor | None, label: Tensor | None, key: BlockKey, finest: int
    ) -> list[Stage]:
        """Generates blocks down to level `finest`, from noise or from coarse images.

        Args:
            start: coarse images in the scale of the nets, up to 64 per block, or None.
            label: as many class indices, or None.
            key: which blocks.
            finest: 0 is the finest.

        Returns:
            One Stage per level, coarsest first, with 64 images per block.
        """
        start, label = self._fill(start, key), self._fill(label, key)
        stages = [] if start is None else [Stage(None, start, start)]
        if self.candidates > 1:
            stages = keep_best(self._draw_candidates(stages, label, key))
        stages = self._extend(stages, label, key, finest)
        # The classifier's level may be finer than `finest`.
        stages = [stage for stage in stages if self._index(size_of(stage.image)) >= finest]
        return stages if finest else stages + self._enlarge(stages[-1].image, label, key)

    def residual(self, k: int, low: Tensor, label: Tensor | None, key: BlockKey) -> Tensor:
        """Generates h~_k = G_k(z_k, l_k) of full blocks from up to 64 low-pass images per block."""
        z, _ = self._draw(k, key)
        with self.compute.autocast():
            high = generate(
                self.levels[k].generator, self._fill(low, key), z, self._fill(label, key)
            )
        return high.float()

    def _draw_candidates(
        self, stages: list[Stage], label: Tensor | None, key: BlockKey
    ) -> Iterator[Candidate]:
        """Yields candidates down to the classifier's level, each with its scores."""
        assert self.guide is not None
        assert label is not None
        finest = self._index(self.guide.size)
        for candidate in range(self.candidates):
            drawn = self._extend(stages, label, replace(key, candidate=candidate), finest)
            yield drawn, self.guide.score(drawn[-1].image, label, self.compute)

    def _extend(
        self, stages: list[Stage], label: Tensor | None, key: BlockKey, finest: int
    ) -> list[Stage]:
        """Adds the levels down to `finest`."""
        start = stages[-1].image if stages else None
        reached = len(self.levels) if start is None else self._index(size_of(start))
        indices = list(reversed(range(finest, reached)))
        noise = [self._draw(k, key) for k in indices]
        z, epsilon = [pair[0] for pair in noise], [pair[1] for pair in noise]
        levels, autocast = [self.levels[k] for k in indices], self.compute.autocast
        return stages + descend(levels, self.operator, z, label, start, autocast, epsilon)

    def _enlarge(self, image: Tensor, label: Tensor | None, key: BlockKey) -> list[Stage]:
        """Applies the levels beyond the finest; their noise has streams of its own."""
        coarser = [self.levels[0], *self.enlarged]
        noise = [
            self._draw_noise(level, below.size, key.generators(len(self.levels) + step))
            for step, (level, below) in enumerate(zip(self.enlarged, coarser, strict=False))
        ]
        z, epsilon = [pair[0] for pair in noise], [pair[1] for pair in noise]
        autocast = self.compute.autocast
        return descend(self.enlarged, self.operator, z, label, image, autocast, epsilon)

    def _draw(self, k: int, key: BlockKey) -> tuple[Tensor, Tensor | None]:
        """Draws z_k and e_k of the blocks.

        e_k is None at a level without conditioning noise; see `descend`.
        """
        below = self.levels[min(k + 1, len(self.levels) - 1)]
        return self._draw_noise(self.levels[k], below.size, key.generators(k))

    def _draw_noise(
        self, level: Level, below: Size, generators: Sequence[torch.Generator]
    ) -> tuple[Tensor, Tensor | None]:
        # Of one block after the other: first its z, then its e.
        drawn = [level.draw_noise(BLOCK, below, generator) for generator in generators]
        z = torch.cat([pair[0] for pair in drawn]).to(self.compute.device)
        epsilon = [e for _, e in drawn if e is not None]
        return z, torch.cat(epsilon).to(self.compute.device) if epsilon else None

    def _index(self, size: Size) -> int:
        """Returns the index of the level of a size."""
        return [level.size for level in self.levels].index(size)

    def _fill(self, x: Tensor | None, key: BlockKey) -> Tensor | None:
        return None if x is None else pad_blocks(x, len(key.blocks)).to(self.compute.device)
