"""The layout of a run folder: the only place where its names are written down.

run.json             what the run is: recipe, data, seed, precision
level-28/            a level: state.safetensors, weights.safetensors, log.jsonl, samples/,
                     budget.json; with --select also best.safetensors and scores.jsonl; of a
                     frozen level weights.safetensors alone
classifier/          the same of the classifier, if the run has one
cascade.safetensors  all averaged weights, written when every level has some
samples.png          samples of the whole cascade, written with it
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLASSIFIER", "PartFolder", "RunFolder", "is_model_path", "read_records"]

# The classifier's folder, and its name among the levels'.
CLASSIFIER = "classifier"
_LEVEL = "level-"
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class PartFolder:
    """The folder of one part of a run: of a level, or of the classifier."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything that a step of training changes."""
        return self.path / "state.safetensors"

    @property
    def weights(self) -> Path:
        """The averaged weights of the last checkpoint."""
        return self.path / _WEIGHTS

    @property
    def best(self) -> Path:
        """The weights that model selection found best; sampling takes them where there are any."""
        return self.path / "best.safetensors"

    @property
    def chosen(self) -> Path | None:
        """The weights that sampling takes; None if there are none yet."""
        return next((path for path in (self.best, self.weights) if path.exists()), None)

    @property
    def scores(self) -> Path:
        """One line of JSON per score of model selection."""
        return self.path / "scores.jsonl"

    @property
    def kept(self) -> tuple[Path, Path]:
        """Files of two earlier states to which training may go back."""
        return self.path / "kept-1.safetensors", self.path / "kept-2.safetensors"

    @property
    def log(self) -> Path:
        """One line of JSON per record."""
        return self.path / "log.jsonl"

    @property
    def budget(self) -> Path:
        """When training ends: `images` and `seconds`, null for no limit."""
        return self.path / "budget.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the part."""
        return self.path / ".lock"

    @property
    def sheets(self) -> list[Path]:
        """The sheets of samples, first to last."""
        return sorted((self.path / "samples").glob("*.png"))

    def sheet(self, images_seen: int) -> Path:
        """Returns the sheet of samples after so many images."""
        return self.path / "samples" / f"{images_seen // 1000:07d}k.png"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def identity(self) -> Path:
        """What the run is: recipe, data, seed, precision."""
        return self.path / "run.json"

    @property
    def cascade(self) -> Path:
        """All levels' weights as one file."""
        return self.path / "cascade.safetensors"

    @property
    def samples(self) -> Path:
        """A sheet of samples of the whole cascade."""
        return self.path / "samples.png"

    def part(self, name: str) -> PartFolder:
        """Returns the folder of a level, by its name such as 28, or of the classifier."""
        return PartFolder(self.path / (name if name == CLASSIFIER else f"{_LEVEL}{name}"))

    def weights_files(self) -> Iterator[Path]:
        """Yields the weights of every part that has some, levels first; the best if selected."""
        for level in sorted(self.path.glob(f"{_LEVEL}*")):
            if chosen := PartFolder(level).chosen:
                yield chosen
        yield from self.path.glob(f"{CLASSIFIER}/{_WEIGHTS}")

    def has_levels(self) -> bool:
        """Whether any level was begun."""
        return any(self.path.glob(f"{_LEVEL}*"))


def is_model_path(path: Path) -> bool:
    """Returns whether a path is a weights file, or a folder with one or with levels of a run."""
    if path.is_dir():
        return RunFolder(path).has_levels() or any(path.glob("*.safetensors"))
    return path.suffix == ".safetensors" and path.is_file()


def read_records(path: Path) -> Iterator[dict[str, float]]:
    """Yields the lines of a log; an incomplete last line is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
