"""Starting from a trained model: G of a level begins with the weights that it has there.

So does D, if the model is the folder of a run; no other form of a model has any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import RunFolder
from lapgan.sizes import Size, size_text
from lapgan.training.state import read_module
from lapgan.weights import (
    Weights,
    generator_state,
    generator_tensors,
    normalization_tensors,
    read_weights,
    tensors_digest,
)

__all__ = ["StartingModel"]


@dataclass(frozen=True)
class StartingModel:
    """The trained model that every level starts with.

    Args:
        name: the model as the command line names it.
        fingerprint: the SHA-256 digest of its generators.
        discriminators: sizes of the levels that have a D, such as 32x32.
        weights: None where a run continues without the model, from its checkpoints alone.
    """

    name: str
    fingerprint: str
    discriminators: tuple[str, ...] = ()
    weights: Weights | None = None

    @classmethod
    def read(cls, path: Path) -> "StartingModel":
        """Reads a model; see `lapgan.weights.read_weights`.

        Raises:
            LapganError: there is none, or its file is damaged.
        """
        weights = read_weights(path)
        generators = {k: t for k, t in weights.tensors.items() if k.startswith("levels.")}
        sizes = tuple(
            size_text(level.size)
            for level in weights.recipe.levels
            if RunFolder(path).part(level.name).state.is_file()
        )
        return cls(str(path), tensors_digest("", generators), sizes, weights)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "StartingModel":
        """Returns what `content` was made of, without the weights."""
        sizes = tuple(content.get("discriminators", ()))
        return cls(str(content["model"]), str(content["fingerprint"]), sizes)

    @property
    def content(self) -> dict[str, Any]:
        """Everything but the weights as plain data."""
        return {
            "model": self.name,
            "fingerprint": self.fingerprint,
            "discriminators": [*self.discriminators],
        }

    @property
    def provenance(self) -> dict[str, str]:
        """Name and fingerprint for weights files: without the folders of this machine."""
        is_hub = self.name.startswith("hub:")
        name = self.name if is_hub else Path(self.name).name
        return {"model": name, "fingerprint": self.fingerprint}

    def has_same_weights(self, other: "StartingModel") -> bool:
        """Whether two models are the same but for their names."""
        found = (other.fingerprint, other.discriminators)
        return found == (self.fingerprint, self.discriminators)

    def has_discriminator(self, level: LevelRecipe) -> bool:
        """Whether there is a D for a level."""
        return size_text(level.size) in self.discriminators

    def load_into(self, generator: nn.Module, level: LevelRecipe, num_classes: int) -> None:
        """Sets parameters and buffers of G to those of the model.

        Args:
            generator: G, as the level's recipe builds it.
            level: the level that is trained.
            num_classes: how many classes condition it; 0 for none.

        Raises:
            LapganError: the model has no such level, or its G is another net.
        """
        if self.weights is None:
            raise LapganError(
                f"level {level.name}: this run starts from {self.name}, and the level has no "
                f"checkpoint yet; continue with --start-from {self.name}."
            )
        there = self._find(level.size, self.weights, level.name)
        tensors = generator_state(there.name, self.weights.tensors)
        if difference := _first_difference("G", tensors, generator.state_dict()):
            raise LapganError(
                f"--start-from {self.name}: level {level.name}: {difference}. "
                + self._advice(len(self.weights.class_names), num_classes)
            )
        generator.load_state_dict(tensors)

    def take_level(self, level: LevelRecipe, recipe: Recipe, class_names: Sequence[str]) -> Weights:
        """Returns the weights of one level of the model as those of a run.

        Args:
            level: the level, as the run's recipe has it.
            recipe: of the run.
            class_names: of the run; empty without classes.

        Raises:
            LapganError: see `load_into`; or the model's images or pyramid are not those of the run.
        """
        with torch.random.fork_rng(devices=[]):
            generator = level.build_generator(len(class_names))
        self.load_into(generator, level, len(class_names))
        assert self.weights is not None
        there = self.weights.recipe
        for key, found, expected in (
            ("pyramid.operator", there.pyramid.operator, recipe.pyramid.operator),
            ("data.normalisation", there.data.normalisation, recipe.data.normalisation),
        ):
            if found != expected:
                raise LapganError(
                    f"--start-from {self.name}: level {level.name}: {key}: expected {expected}, as "
                    f"in this run, found {found}. Choose another model, or train the level."
                )
        name = self._find(level.size, self.weights, level.name).name
        tensors = generator_tensors(level.name, generator)
        tensors |= normalization_tensors(symmetric_normalization(recipe.sizes[0]))
        figures = self.weights.training.get(name)
        training = {level.name: figures} if figures else {}
        return Weights(tensors, recipe, tuple(class_names), training)

    def load_discriminator_into(self, discriminator: nn.Module, level: LevelRecipe) -> None:
        """Sets parameters and buffers of D to those of the model, if it has a D for the level.

        Args:
            discriminator: D, as the level's recipe builds it.
            level: the level that is trained.

        Raises:
            LapganError: the model's D is another net, or its file is damaged.
        """
        if self.weights is None or not self.has_discriminator(level):
            return
        run = RunFolder(Path(self.name))
        there = self._find(level.size, self.weights, level.name)
        tensors = read_module(run.part(there.name).state, "d")
        if difference := _first_difference("D", tensors, discriminator.state_dict()):
            raise LapganError(
                f"--start-from {self.name}: level {level.name}: {difference}. Use the "
                f"discriminators of its recipe (`lapgan info {self.name} --json`); or start from a "
                f"file of its weights, such as {run.cascade}, which has no D."
            )
        discriminator.load_state_dict(tensors)

    def _find(self, size: Size, weights: Weights, wanted: str) -> LevelRecipe:
        trained = [level for level in weights.recipe.levels if level.name not in weights.missing]
        for level in trained:
            if level.size == size:
                return level
        names = ", ".join(level.name for level in trained)
        raise LapganError(
            f"--start-from {self.name}: level {wanted}: expected a level of {size_text(size)}, "
            f"found the levels {names} ({weights.recipe.name}); choose among them with --level, or "
            "use a recipe of these sizes."
        )

    def _advice(self, there: int, here: int) -> str:
        """Says what to change so that G has the tensors of the model."""
        needed = f"data with {there} classes" if there else "--set data.classes=false"
        classes = "" if there == here else f", and {needed} (this run has {here or 'none'})"
        return (
            f"Use the generators and the noise of its recipe (`lapgan info {self.name} --json`)"
            f"{classes}; or choose other levels with --level."
        )


def _first_difference(
    net: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> str | None:
    """Says which tensor of a net is another one in the model; None if names and shapes agree."""
    for name in sorted(found.keys() | expected.keys()):
        there, here = (_shape(tensors.get(name)) for tensors in (found, expected))
        if there != here:
            return f"{net}'s tensor {name}: found {there} in the model, expected {here}"
    return None


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
