"""The schema of a recipe, and the only reader of one.

A recipe says everything that shapes the result of a training run: data, pyramid, nets, noise,
objective, schedule. It is a TOML file; unknown keys are errors. Levels are keyed by their size,
finest first: `[levels.28]`, `[levels.14]`, `[levels.8]`, or `[levels.48x64]` (height x width).
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import nn

from lapgan.errors import LapganError
from lapgan.models import paper, patch, projected
from lapgan.models.classifier import ImageClassifier
from lapgan.noise import HashedNoise, LowRankNoise, Noise, NoisePlane, NoiseVector
from lapgan.pyramid import Operator
from lapgan.sizes import Size, check_sizes, parse_size

__all__ = [
    "Adam",
    "ClassifierRecipe",
    "DifferencePenalty",
    "LevelRecipe",
    "Recipe",
    "Sgd",
    "TrainingRecipe",
    "check_recipe",
    "read_recipe",
    "recipe_names",
    "recipe_text",
]

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaneNoise(_Strict):
    """Noise as planes of the level's size."""

    kind: Literal["plane"] = "plane"
    planes: Count = 1

    def build(self) -> Noise:
        """Makes the noise."""
        return NoisePlane(self.planes)


class VectorNoise(_Strict):
    """Noise as a vector."""

    kind: Literal["vector"] = "vector"
    dimension: Count = 100

    def build(self) -> Noise:
        """Makes the noise."""
        return NoiseVector(self.dimension)


class HashedPlaneNoise(_Strict):
    """Planes filled from a given number of values; see `lapgan.noise.HashedNoise`."""

    kind: Literal["hashed"] = "hashed"
    dimension: Count = 100
    planes: Count = 1

    def build(self) -> Noise:
        """Makes the noise."""
        return HashedNoise(self.dimension, self.planes)


class LowRankPlaneNoise(_Strict):
    """Planes of correlated noise; see `lapgan.noise.LowRankNoise`."""

    kind: Literal["low-rank"] = "low-rank"
    rank: Count = 100
    planes: Count = 1

    def build(self) -> Noise:
        """Makes the noise."""
        return LowRankNoise(self.rank, self.planes)


AnyPlaneNoise = PlaneNoise | HashedPlaneNoise | LowRankPlaneNoise
AnyNoise = AnyPlaneNoise | VectorNoise


class PaperDenseGenerator(_Strict):
    """The dense G_K of the paper; see `lapgan.models.paper.DenseGenerator`."""

    kind: Literal["paper-dense"] = "paper-dense"
    units: Count = 1200
    second: Literal["relu", "sigmoid"] = "relu"
    init_std: Positive | None = None
    takes_low: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (VectorNoise,)

    def build(self, size: Size, noise: VectorNoise, num_classes: int) -> nn.Module:
        """Makes the net."""
        second = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[self.second]
        return paper.DenseGenerator(
            size, noise.dimension, self.units, num_classes, second, self.init_std
        )


class PaperConvGenerator(_Strict):
    """The convolutional G_k of the paper; see `lapgan.models.paper.ConvGenerator`."""

    kind: Literal["paper-conv"] = "paper-conv"
    maps: Count = 64
    takes_low: ClassVar[bool] = True
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = get_args(AnyPlaneNoise)

    def build(self, size: Size, noise: AnyPlaneNoise, num_classes: int) -> nn.Module:
        """Makes the net."""
        return paper.ConvGenerator(size, self.maps, noise.planes, num_classes)


class ModernDenseGenerator(_Strict):
    """A dense G_K on principal components; see `lapgan.models.patch.VectorGenerator`."""

    kind: Literal["modern-dense"] = "modern-dense"
    units: Count = 384
    blocks: Count = 2
    takes_low: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (VectorNoise,)

    def build(self, size: Size, noise: VectorNoise, num_classes: int) -> nn.Module:
        """Makes the net."""
        return patch.VectorGenerator(size, noise.dimension, self.units, self.blocks, num_classes)


class ModernPatchGenerator(_Strict):
    """A G_k on a grid of patches; see `lapgan.models.patch.PatchGenerator`."""

    kind: Literal["modern-patch"] = "modern-patch"
    patch: Count = 4
    maps: Count = 96
    blocks: Count = 2
    takes_low: ClassVar[bool] = True
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = get_args(AnyPlaneNoise)

    def build(self, size: Size, noise: AnyPlaneNoise, num_classes: int) -> nn.Module:
        """Makes the net."""
        return patch.PatchGenerator(
            size, self.patch, self.maps, self.blocks, noise.planes, num_classes
        )


class PaperDenseDiscriminator(_Strict):
    """The dense D_K of the paper; see `lapgan.models.paper.DenseDiscriminator`."""

    kind: Literal["paper-dense"] = "paper-dense"
    units: Count = 600
    dropout: Share = 0.5
    init_std: Positive | None = None
    looks: ClassVar[bool] = False

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Makes the net."""
        return paper.DenseDiscriminator(size, self.units, self.dropout, num_classes, self.init_std)


class PaperConvDiscriminator(_Strict):
    """The convolutional D_k of the paper; see `lapgan.models.paper.ConvDiscriminator`."""

    kind: Literal["paper-conv"] = "paper-conv"
    maps: Count = 64
    dropout: Share = 0.5
    looks: ClassVar[bool] = False

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Makes the net."""
        if min(size) < 9:
            raise LapganError(
                f"levels.{size[0]}x{size[1]}.discriminator: paper-conv needs at least 9 pixels a "
                "side; use paper-dense at this size."
            )
        return paper.ConvDiscriminator(size, self.maps, self.dropout, num_classes)


class ModernPatchDiscriminator(_Strict):
    """A D on a grid of patches, for any level; see `lapgan.models.patch.PatchDiscriminator`."""

    kind: Literal["modern-patch"] = "modern-patch"
    patch: Count = 4
    maps: Count = 64
    units: Count = 256
    looks: ClassVar[bool] = True

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Makes the net."""
        return patch.PatchDiscriminator(size, self.patch, self.maps, self.units, num_classes)


class ProjectedDiscriminator(_Strict):
    """A D on the maps of a classifier; see `lapgan.models.projected.ProjectedDiscriminator`.

    `study` is the share of the level's budget in which the classifier learns; what is left is the
    adversarial game's.
    """

    kind: Literal["projected"] = "projected"
    study: Annotated[float, Field(gt=0, lt=1)] = 0.3
    features: Count = 32
    maps: Count = 32
    units: Count = 128
    looks: ClassVar[bool] = True

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Makes the net."""
        return projected.ProjectedDiscriminator(
            size, self.features, self.maps, self.units, num_classes
        )


AnyGenerator = (
    PaperDenseGenerator | PaperConvGenerator | ModernDenseGenerator | ModernPatchGenerator
)
AnyDiscriminator = (
    PaperDenseDiscriminator
    | PaperConvDiscriminator
    | ModernPatchDiscriminator
    | ProjectedDiscriminator
)


class DifferencePenalty(_Strict):
    """A gradient penalty on D by finite differences; see `lapgan.losses.finite_difference_penalty`.

    The loss of D is L + weight / 2 (R1 + R2). The penalty is computed every few steps, that many
    times as strong. `scale` is the length of the difference, in standard deviations of what D looks
    at.
    """

    weight: Positive = 0.3
    every: Count = 4
    scale: Positive = 0.1


class LevelRecipe(_Strict):
    """One level: its nets, its noise, and its share of a budget in minutes.

    `generator_rate` multiplies G's learning rate, so that G and D learn at two rates (Heusel et
    al., 2017). `penalty` stands in for that of `training`. `supervised` is the weight of the
    distance between generated and real residual in the loss of G; see
    `lapgan.models.patch.PatchGenerator.distance`. `instance_noise` is added to all that D judges,
    in standard deviations of what it looks at (Sonderby et al., 2017). With `augment` D sees no
    image as it is, which keeps it from learning few pictures by heart; see
    `lapgan.training.augment`.
    """

    generator: Annotated[AnyGenerator, Field(discriminator="kind")]
    discriminator: Annotated[AnyDiscriminator, Field(discriminator="kind")]
    noise: Annotated[AnyNoise, Field(discriminator="kind")]
    share: Positive = 1.0
    generator_rate: Positive = 1.0
    penalty: DifferencePenalty | None = None
    supervised: NotNegative = 0.0
    instance_noise: NotNegative = 0.0
    augment: bool = False

    @model_validator(mode="after")
    def _noise_fits(self) -> "LevelRecipe":
        expected = self.generator.takes_noise
        if not isinstance(self.noise, expected):
            kinds = " or ".join(repr(kind.model_fields["kind"].default) for kind in expected)
            raise ValueError(
                f"the generator {self.generator.kind!r} takes noise of kind {kinds}, "
                f"found {self.noise.kind!r}"
            )
        return self

    def build_generator(self, size: Size, num_classes: int) -> nn.Module:
        """Makes the level's generator."""
        return self.generator.build(size, self.noise, num_classes)  # type: ignore[arg-type]


class DataRecipe(_Strict):
    """How images become training examples.

    `source` is where they come from unless the command line says otherwise.
    `crop = "corners"` takes the four corner crops of the finest size from each image, as the paper
    does with CIFAR-10; `standardised` is zero mean and unit variance at each pixel, `symmetric` is
    [-1, 1].
    """

    source: str | None = None
    crop: Literal["none", "corners"] = "none"
    flip: bool = False
    normalisation: Literal["symmetric", "standardised"] = "symmetric"
    classes: bool = False


class Sgd(_Strict):
    """Gradient descent with the paper's schedule.

    After e epochs the learning rate is `learning_rate / (1 + decay)^e` and the momentum
    `min(momentum + momentum_step e, momentum_max)`.
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.02
    decay: Annotated[float, Field(ge=0)] = 4e-5
    momentum: Share = 0.5
    momentum_step: Annotated[float, Field(ge=0)] = 0.0008
    momentum_max: Share = 0.8


class Adam(_Strict):
    """Adam with a constant learning rate, or one that falls along half a cosine.

    With `decay = "cosine"` the rate falls to a twentieth at the end of the budget, in images or in
    time; a run that is then given more goes on with the rate of the larger budget.
    """

    kind: Literal["adam"] = "adam"
    learning_rate: Positive = 2e-4
    betas: tuple[Share, Share] = (0.5, 0.999)
    decay: Literal["none", "cosine"] = "none"


class TrainingRecipe(_Strict):
    """How each level is trained.

    `batch` examples are drawn a step: half of them are shown to D as they are, half lend their
    low-pass image to a generated one, and all of them to the update of G. The `relativistic`
    objective pairs each example with a generated one. `images` is how
    many examples a level sees unless the command line says otherwise. The averaged weights forget
    half in `ema_half_life` images. `exposure` is the share of a minibatch for which G works on
    low-pass images that the levels below generate, not on real ones; levels then have to be trained
    coarsest first.
    """

    batch: Annotated[int, Field(ge=2, multiple_of=2)] = 128
    images: Count = 10_000_000
    objective: Literal["non-saturating", "minimax", "relativistic"] = "non-saturating"
    penalty: DifferencePenalty | None = None
    optimiser: Annotated[Sgd | Adam, Field(discriminator="kind")] = Sgd()
    ema_half_life: Count = 20_000
    exposure: Share = 0.0


class ClassifierRecipe(_Strict):
    """The classifier that chooses among candidates; see `lapgan.selection`.

    It is no part of a recipe: it can be added to any class-conditional run, and is kept with the
    weights. `level` is the size of the images that it judges, one of the recipe's.
    """

    level: str
    maps: Count = 64

    def build(self, num_classes: int) -> ImageClassifier:
        """Makes the net."""
        return ImageClassifier(parse_size(self.level), self.maps, num_classes)


class PyramidRecipe(_Strict):
    """Which operators build the pyramid; see `lapgan.pyramid`."""

    operator: Operator = "burt-adelson"


class Recipe(_Strict):
    """Everything that shapes the result of a training run."""

    name: str
    description: str = ""
    data: DataRecipe = DataRecipe()
    pyramid: PyramidRecipe = PyramidRecipe()
    training: TrainingRecipe = TrainingRecipe()
    levels: dict[str, LevelRecipe]

    @field_validator("levels")
    @classmethod
    def _sizes_descend(cls, levels: dict[str, LevelRecipe]) -> dict[str, LevelRecipe]:
        try:
            check_sizes([parse_size(key) for key in levels])
        except LapganError as error:
            raise ValueError(str(error)) from None
        return levels

    @model_validator(mode="after")
    def _low_fits(self) -> "Recipe":
        *finer, coarsest = self.levels.items()
        for key, level in finer:
            if not level.generator.takes_low:
                raise ValueError(
                    f"levels.{key}.generator: {level.generator.kind!r} cannot see a low-pass "
                    "image; only the coarsest level works from noise alone"
                )
        if coarsest[1].generator.takes_low:
            raise ValueError(
                f"levels.{coarsest[0]}.generator: {coarsest[1].generator.kind!r} needs a low-pass "
                "image, but the coarsest level has none; use 'modern-dense' or 'paper-dense'"
            )
        return self

    @model_validator(mode="after")
    def _pairs_fit(self) -> "Recipe":
        for k, (key, level) in enumerate(self.levels.items()):
            where = f"levels.{key}"
            if self.penalty(k) is not None:
                self._needs_looking(
                    f"{where}.penalty" if level.penalty else "training.penalty", key
                )
            if level.instance_noise:
                self._needs_looking(f"{where}.instance_noise", key)
            if level.augment:
                self._needs_looking(f"{where}.augment", key)
            if level.supervised:
                self._supervision_fits(f"{where}.supervised", level)
            if level.discriminator.kind == "projected":
                self._needs_pairs(f"{where}.discriminator 'projected'")
        return self

    def _needs_looking(self, where: str, key: str) -> None:
        self._needs_pairs(where)
        found = self.levels[key].discriminator
        if not found.looks:
            raise ValueError(
                f"levels.{key}.discriminator: {where} needs 'modern-patch' or 'projected', found "
                f"{found.kind!r}"
            )

    def _supervision_fits(self, where: str, level: LevelRecipe) -> None:
        self._needs_pairs(where)
        if level.generator.kind != "modern-patch":
            raise ValueError(
                f"{where}: needs the generator 'modern-patch', found {level.generator.kind!r}"
            )
        if self.training.exposure:
            raise ValueError(
                f"{where}: low-pass images that the level below generates have no residual to "
                f"compare with; set training.exposure = 0, found {self.training.exposure}"
            )

    def _needs_pairs(self, where: str) -> None:
        if self.training.objective != "relativistic":
            raise ValueError(
                f"{where}: only the objective 'relativistic' has it, found "
                f"{self.training.objective!r}"
            )

    @property
    def sizes(self) -> list[Size]:
        """The size of every level, finest first."""
        return [parse_size(key) for key in self.levels]

    def level_name(self, k: int) -> str:
        """Returns the size of level k as the recipe writes it, with 0 the finest."""
        return list(self.levels)[k]

    def penalty(self, k: int) -> DifferencePenalty | None:
        """Returns the gradient penalty of level k, with 0 the finest."""
        return self.level(k).penalty or self.training.penalty

    def level(self, k: int) -> LevelRecipe:
        """Returns level k, with 0 the finest."""
        return list(self.levels.values())[k]


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("lapgan.recipes").iterdir()
        if entry.name.endswith(".toml")
    )


def read_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by its name or from a TOML file.

    Args:
        source: the name of a recipe of the package, or the path of a TOML file.
        overrides: changes as `key.key=value`, with values written as in TOML.

    Raises:
        LapganError: there is no such recipe, it is not TOML, or a key is unknown or wrong.
    """
    content = _load(source)
    for override in overrides:
        _override(content, override)
    return check_recipe(content, str(source))


def check_recipe(content: Mapping[str, Any], source: str) -> Recipe:
    """Makes a recipe of plain data; errors name `source` and the key.

    Raises:
        LapganError: a key is unknown, missing or wrong.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [_explain(content, item) for item in error.errors()]
        raise LapganError(f"recipe {source}:\n  " + "\n  ".join(lines)) from None


def recipe_text(source: str | Path) -> str:
    """Returns the TOML of a recipe by its name, or of a file.

    Raises:
        LapganError: there is no such recipe, or it is not text.
    """
    name, path = str(source), Path(source)
    if name in recipe_names():
        return (resources.files("lapgan.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    if not path.is_file():
        raise LapganError(
            f"recipe {name}: there is no such file, and no recipe of that name. The package has: "
            f"{', '.join(recipe_names())}."
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LapganError(f"recipe {path}: this is not text: {error}.") from None


def _load(source: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(recipe_text(source))
    except tomllib.TOMLDecodeError as error:
        raise LapganError(f"recipe {source}: this is not TOML: {error}.") from None


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise LapganError(
            f"--set {override}: expected key=value, such as training.batch=64 or "
            "levels.28.generator.maps=32."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise LapganError(f"--set {override}: {parent} is a value and has no keys of its own.")
    node[last] = value


def _explain(content: Any, error: Mapping[str, Any]) -> str:
    path = ".".join(_named(content, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(str(error['loc'][-1]))}"
    found = "" if error["type"] == "missing" else f", found {_short(error['input'])}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}{found}" if path else message


def _named(content: Any, location: Iterable[str | int]) -> Iterable[str]:
    """Yields the keys of a location without the names of kinds, which are no keys."""
    for step in location:
        if isinstance(content, Mapping) and content.get("kind") == step:
            continue
        if isinstance(content, Mapping):
            content = content.get(step)
        yield str(step)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _suggestion(key: str) -> str:
    known = {field for model in _models(_Strict) for field in model.model_fields} - {key}
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _models(model: type[BaseModel]) -> Iterable[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _models(child)
