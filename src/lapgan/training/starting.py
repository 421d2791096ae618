"""Starting from a trained model: G of a level begins with the weights that it has there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.recipe import LevelRecipe
from lapgan.sizes import Size, size_text
from lapgan.weights import Weights, generator_state, read_weights, tensors_digest

__all__ = ["StartingModel"]


@dataclass(frozen=True)
class StartingModel:
    """The trained model that G of every level starts with.

    Args:
        name: the model as the command line names it.
        fingerprint: the SHA-256 digest of its generators.
        weights: None where a run continues without the model, from its checkpoints alone.
    """

    name: str
    fingerprint: str
    weights: Weights | None = None

    @classmethod
    def read(cls, path: Path) -> "StartingModel":
        """Reads a model; see `lapgan.weights.read_weights`.

        Raises:
            LapganError: there is none, or its file is damaged.
        """
        weights = read_weights(path)
        generators = {k: t for k, t in weights.tensors.items() if k.startswith("levels.")}
        return cls(str(path), tensors_digest("", generators), weights)

    @property
    def content(self) -> dict[str, str]:
        """Name and fingerprint as plain data."""
        return {"model": self.name, "fingerprint": self.fingerprint}

    @property
    def provenance(self) -> dict[str, str]:
        """The same for weights files, which are passed on: without the folders of this machine."""
        is_hub = self.name.startswith("hub:")
        return {**self.content, "model": self.name if is_hub else Path(self.name).name}

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
        tensors = self._tensors_of(level.size, self.weights, level.name)
        if difference := _first_difference(tensors, generator.state_dict()):
            raise LapganError(
                f"--start-from {self.name}: level {level.name}: {difference}. "
                + self._advice(len(self.weights.class_names), num_classes)
            )
        generator.load_state_dict(tensors)

    def _tensors_of(self, size: Size, weights: Weights, wanted: str) -> dict[str, Tensor]:
        trained = [level for level in weights.recipe.levels if level.name not in weights.missing]
        for level in trained:
            if level.size == size:
                return generator_state(level.name, weights.tensors)
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


def _first_difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Says which tensor of G is another one in the model; None if all names and shapes agree."""
    for name in sorted(found.keys() | expected.keys()):
        there, here = (_shape(tensors.get(name)) for tensors in (found, expected))
        if there != here:
            return f"G's tensor {name}: found {there} in the model, expected {here}"
    return None


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
