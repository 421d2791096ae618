"""The file format of trained weights: one safetensors file that alone rebuilds the model.

Tensors are named `levels.<size>.generator.<parameter>`, `normalisation.mean` and
`normalisation.std`, and `classifier.<parameter>` where there is one. The metadata has the format's
number, the recipe, the classifier's section, the class names, the figures of training, and a
SHA-256 digest over all of it. A file may hold some of a cascade's levels only: a run folder has one
such file per level and one for the classifier, and reading the folder joins them.

Nets may be stored in half precision, which halves the file. Format 2 also has large weights as
int8 with one float32 scale per output channel, named `<tensor>:scale`:

    w[o] = scale[o] q[o],    q in -127 ... 127,    scale[o] = max |w[o]| / 127

Weights are computed in float32 all the same. A file without int8 tensors is written as format 1.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.files import atomic_path
from lapgan.hub import MODEL_FILE, download_model
from lapgan.models.classifier import ClassifierSection
from lapgan.normalization import Normalization
from lapgan.recipe import Recipe, check_recipe
from lapgan.run_folder import CLASSIFIER, RunFolder
from lapgan.section import validate

__all__ = [
    "FORMAT",
    "Weights",
    "classifier_state",
    "classifier_tensors",
    "drop_classifier",
    "drop_retired",
    "generator_state",
    "generator_tensors",
    "halve_precision",
    "join_weights",
    "normalization_tensors",
    "pretrained_names",
    "quantize",
    "read_weights",
    "tensors_digest",
    "write_tensors",
    "write_weights",
]

FORMAT = 2
_SCALE = ":scale"
# Of smaller tensors an int8 copy would save nothing that counts.
_LARGE = 4096
_CLASSIFIER = f"{CLASSIFIER}."
_MEAN, _STD = "normalisation.mean", "normalisation.std"
# Buffers that the classifier's stages had in earlier versions; nothing is computed from them.
_RETIRED = ".shown_norm."


@dataclass(frozen=True)
class Weights:
    """What a weights file holds.

    Args:
        tensors: by name; see the module.
        recipe: how the model is built and was trained.
        class_names: empty without classes.
        training: figures of training by level: images seen, seconds, data, seed, machine.
        classifier: how the classifier is built, if there is one.
    """

    tensors: dict[str, Tensor]
    recipe: Recipe
    class_names: tuple[str, ...]
    training: dict[str, Any]
    classifier: ClassifierSection | None = None

    @property
    def normalization(self) -> Normalization:
        """From pixels to the scale of the nets."""
        return Normalization(mean=self.tensors[_MEAN], std=self.tensors[_STD])

    @property
    def missing(self) -> list[str]:
        """The names of the recipe's levels that are not in the file."""
        present = {name.split(".")[1] for name in self.tensors if name.startswith("levels.")}
        return [name for name in self.recipe.level_names if name not in present]

    def check_complete(self, path: Path) -> None:
        """Raises a LapganError that names `path`, what was read, if a level is missing."""
        if self.missing:
            raise LapganError(
                f"{path}: the level(s) {', '.join(self.missing)} have no weights yet; train "
                "them with `lapgan train ... --level SIZE`, or wait for their first checkpoint."
            )


def generator_tensors(level: str, generator: nn.Module) -> dict[str, Tensor]:
    """Returns a generator's tensors under the names they have in a file; see the module."""
    return {f"{_prefix(level)}{name}": t for name, t in generator.state_dict().items()}


def generator_state(level: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a generator's state from a file's tensors: what `generator_tensors` was given."""
    return _strip(_prefix(level), tensors)


def classifier_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Returns a classifier's tensors under the names they have in a file; see the module."""
    return {f"{_CLASSIFIER}{name}": t for name, t in net.state_dict().items()}


def classifier_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a classifier's state from a file's tensors: what `classifier_tensors` was given."""
    return _strip(_CLASSIFIER, tensors)


def normalization_tensors(normalization: Normalization) -> dict[str, Tensor]:
    """Returns the tensors of a normalization under the names they have in a file."""
    return {_MEAN: normalization.mean, _STD: normalization.std}


def _strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _prefix(level: str) -> str:
    return f"levels.{level}.generator."


def halve_precision(weights: Weights) -> Weights:
    """Returns weights with their nets in float16: half the size, 11 bits of precision."""
    return replace(
        weights,
        tensors={
            name: tensor.half() if _is_net(name, tensor) else tensor
            for name, tensor in weights.tensors.items()
        },
    )


def quantize(weights: Weights) -> Weights:
    """Returns weights with the large weights of their nets in int8; see the module.

    The error of a weight is at most 1/254 of the largest one of its channel. That is too much for
    buffers such as a whitening basis, so that only parameters named `weight` are rounded.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.tensors.items():
        is_large = tensor.dim() > 1 and tensor.numel() >= _LARGE
        if _is_net(name, tensor) and name.endswith(".weight") and is_large:
            tensors |= _to_int8(name, tensor.float())
        else:
            tensors[name] = tensor
    return replace(weights, tensors=tensors)


def _is_quantized(tensor: Tensor) -> bool:
    return tensor.dtype == torch.int8


def _to_int8(name: str, tensor: Tensor) -> dict[str, Tensor]:
    scale = tensor.flatten(1).abs().amax(1) / 127
    # A channel of zeros stays one.
    divisor = torch.where(scale > 0, scale, 1.0).view(-1, *[1] * (tensor.dim() - 1))
    return {name: (tensor / divisor).round().to(torch.int8), f"{name}{_SCALE}": scale}


def _from_int8(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns int8 tensors and their scales into float32; the others stay as they are."""
    scales = {name.removesuffix(_SCALE): t for name, t in tensors.items() if name.endswith(_SCALE)}
    read = {name: tensor for name, tensor in tensors.items() if not name.endswith(_SCALE)}
    for name, tensor in read.items():
        if tensor.dtype != torch.int8 and name not in scales:
            continue
        scale = scales.get(name)
        if tensor.dtype != torch.int8 or scale is None or scale.shape != tensor.shape[:1]:
            raise LapganError(
                f"{path}: {name}: expected int8 with one scale per output channel, found "
                f"{tensor.dtype} with {'no scale' if scale is None else tuple(scale.shape)}. Write "
                "the file again with `lapgan pack --int8`."
            )
        read[name] = tensor.float() * scale.view(-1, *[1] * (tensor.dim() - 1))
    return read


def _is_net(name: str, tensor: Tensor) -> bool:
    return name.startswith(("levels.", _CLASSIFIER)) and tensor.is_floating_point()


def drop_classifier(weights: Weights) -> Weights:
    """Returns weights without their classifier, if they have one."""
    return replace(
        weights,
        tensors={k: t for k, t in weights.tensors.items() if not k.startswith(_CLASSIFIER)},
        training={part: f for part, f in weights.training.items() if part != CLASSIFIER},
        classifier=None,
    )


def drop_retired(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a file's tensors without buffers that only earlier versions had."""
    return {name: tensor for name, tensor in tensors.items() if _RETIRED not in name}


def pretrained_names() -> list[str]:
    """Returns the names of the trained models that come with the package."""
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in resources.files("lapgan.pretrained").iterdir()
        if entry.name.endswith(".safetensors")
    )


def write_weights(path: Path, weights: Weights) -> None:
    """Writes a weights file, whole or not at all.

    Raises:
        LapganError: the file cannot be written.
    """
    content = {
        "recipe": weights.recipe.model_dump(mode="json", by_alias=True),
        "class_names": list(weights.class_names),
        "training": weights.training,
        "classifier": weights.classifier and weights.classifier.model_dump(),
    }
    # safetensors stores tensors row by row; channels-last ones are laid out anew.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()}
    metadata = {
        "format": f"lapgan {FORMAT if any(map(_is_quantized, tensors.values())) else 1}",
        "content": json.dumps(content),
        "sha256": tensors_digest(json.dumps(content), tensors),
    }
    write_tensors(path, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file, whole or not at all, without a second copy in memory.

    Raises:
        LapganError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(dict(tensors), temporary, metadata)
        except SafetensorError as error:
            # The library wraps the operating system's error.
            raise OSError(str(error)) from error


def read_weights(path: Path) -> Weights:
    """Reads a weights file, a run folder, a folder of `lapgan push`, or a model of package or Hub.

    Args:
        path: a file or a folder; where there is no such path, one of `pretrained_names`, or
            `hub:OWNER/NAME` with `@REVISION` behind it for another revision than the newest.

    Raises:
        LapganError: there is nothing to read, or the file is damaged, was changed, or comes from a
            newer version.
    """
    if (path / MODEL_FILE).is_file():
        return _read_file(path / MODEL_FILE)
    if path.is_dir():
        parts = {file: _read_file(file) for file in RunFolder(path).weights_files()}
        if not parts:
            raise LapganError(
                f"{path}: no level has weights yet; expected {RunFolder(path).part('*').weights}. "
                "Is this a run folder, and was `lapgan train` run long enough for a first "
                "checkpoint?"
            )
        return join_weights(parts)
    if not path.exists() and str(path) in pretrained_names():
        with resources.as_file(resources.files("lapgan.pretrained") / f"{path}.safetensors") as own:
            return _read_file(own)
    word, _, name = path.as_posix().partition(":")
    if word == "hub" and not path.exists():
        return _read_file(download_model(name))
    if not path.is_file():
        raise LapganError(
            f"{path}: there is no such file or folder; expected a run folder, a .safetensors file, "
            f"a model of the package ({', '.join(pretrained_names()) or 'there is none'}), or "
            "hub:OWNER/NAME."
        )
    return _read_file(path)


def join_weights(parts: Mapping[Path, Weights], *, replace_levels: bool = False) -> Weights:
    """Joins weights that hold different levels of one model.

    Args:
        parts: by the file that each was read from; at least one.
        replace_levels: a level of a later file takes the place of the same one of an earlier file.
            Recipes then have to agree only in what sampling uses, and the joined one has the
            levels that were taken.

    Raises:
        LapganError: two of them have another recipe, other classes or another normalization, or
            hold the same level.
    """
    (place, first), *others = parts.items()
    recipe = first.recipe
    for path, part in others:
        if what := _find_difference(part, first, replace_levels):
            raise LapganError(
                f"{path}: not of the same {what} as {place}, so they are no levels of one "
                "model; use one run folder per recipe and data set."
            )
        recipe = _take_levels(recipe, part)
    tensors: dict[str, Tensor] = {}
    for path, part in parts.items():
        twice = {name for name in part.tensors if name not in (_MEAN, _STD)} & tensors.keys()
        if twice and not replace_levels:
            raise LapganError(
                f"{path}: {min(twice)} is in another of these files too; name each level once."
            )
        tensors |= part.tensors
    return Weights(
        tensors=tensors,
        recipe=recipe,
        class_names=first.class_names,
        training={size: figures for p in parts.values() for size, figures in p.training.items()},
        classifier=next((part.classifier for part in parts.values() if part.classifier), None),
    )


def _find_difference(one: Weights, other: Weights, replace_levels: bool) -> str | None:
    """Says in what two parts are not of one model; None if they are."""
    if replace_levels and _what_is_sampled(one.recipe) != _what_is_sampled(other.recipe):
        return "pyramid, noise and generators"
    if not replace_levels and one.recipe != other.recipe:
        return "recipe"
    if one.class_names != other.class_names:
        return "class names"
    return None if _have_same_normalization(one, other) else "normalization"


def _what_is_sampled(recipe: Recipe) -> tuple[object, ...]:
    levels = [(level.name, level.noise, level.generator) for level in recipe.levels]
    return recipe.pyramid, recipe.data.normalisation, recipe.data.classes, levels


def _take_levels(recipe: Recipe, part: Weights) -> Recipe:
    """Returns a recipe with the sections of the levels that a part has weights of."""
    taken = {level.name: level for level in part.recipe.levels if level.name not in part.missing}
    levels = tuple(taken.get(level.name, level) for level in recipe.levels)
    return recipe.model_copy(update={"levels": levels})


def _have_same_normalization(one: Weights, other: Weights) -> bool:
    both = (name for name in (_MEAN, _STD) if name in one.tensors and name in other.tensors)
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in both)


def _read_file(path: Path) -> Weights:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LapganError(
            f"{path}: this is not a whole safetensors file ({error}). It may be truncated; copy or "
            "download it again."
        ) from None
    text = metadata.get("content", "")
    if tensors_digest(text, tensors) != metadata.get("sha256"):
        raise LapganError(
            f"{path}: the content does not match its SHA-256 digest: the file was changed or "
            "damaged after it was written. Copy or download it again."
        )
    content = json.loads(text)
    return Weights(
        tensors=_from_int8(path, drop_retired(tensors)),
        recipe=check_recipe(content["recipe"], f"in {path}"),
        class_names=tuple(content["class_names"]),
        training=content["training"],
        classifier=_classifier_section(path, content.get("classifier")),
    )


def _classifier_section(path: Path, content: Any) -> ClassifierSection | None:
    return None if content is None else validate(ClassifierSection, content, f"{path}: classifier")


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    name, _, number = metadata.get("format", "").partition(" ")
    if name != "lapgan" or not number.isdecimal():
        raise LapganError(f"{path}: a safetensors file, but not one that lapgan wrote.")
    if int(number) > FORMAT:
        raise LapganError(
            f"{path}: format {number} is newer than this version of lapgan reads ({FORMAT}); "
            "upgrade lapgan."
        )


def tensors_digest(content: str, tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 digest of a text and of named tensors, as hexadecimal digits."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
