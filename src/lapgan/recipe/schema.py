"""The schema of a recipe: which sections it has, and which of them fit together.

The sections of nets, noise, objectives and optimizers stand in their own files; here they are put
together and checked against each other.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializationInfo,
    field_serializer,
    model_validator,
)
from torch import nn

from lapgan.errors import LapganError
from lapgan.models import AnyDiscriminator, AnyGenerator
from lapgan.models.feature_discriminator import FeatureDiscriminatorSection
from lapgan.models.joint_discriminator import JointDiscriminator
from lapgan.noise import AnyNoise, ConditioningNoise
from lapgan.objectives import AnyObjective
from lapgan.objectives.paper import NonSaturating
from lapgan.optimizers import AnyOptimizer, Sgd
from lapgan.penalty import AnyPenalty, Penalty
from lapgan.pyramid import Operator
from lapgan.section import Count, NotNegative, Positive, Section
from lapgan.sizes import Size, check_sizes, parse_size
from lapgan.supervised import AnySupervised, Supervised

__all__ = ["DataRecipe", "LevelRecipe", "PyramidRecipe", "Recipe", "TrainingRecipe"]

# Until a new D tells the images of a trained G from real ones.
_DELAY_FROM_MODEL = 500


class DataRecipe(Section):
    """How images become training examples.

    Args:
        source: where the images come from unless the command line says otherwise.
        crop: `corners` takes the four corner crops of the finest size from each image, as the paper
            does with CIFAR-10.
        flip: mirror an example left to right with probability 1/2.
        replacement: draw the examples of a minibatch with replacement, as the authors' code does;
            by default each epoch has every example once.
        hold_out: how many images no level is trained on; see `lapgan.data.hold_out_images`.
        normalisation: `standardised` is zero mean and unit variance at each pixel, `symmetric` is
            [-1, 1].
        classes: condition every level on the class.
        buffer: of a stream, how many images are shuffled among each other and held in memory.
    """

    source: str | None = None
    crop: Literal["none", "corners"] = "none"
    flip: bool = False
    replacement: bool = False
    hold_out: Annotated[int, Field(ge=0)] = 0
    normalisation: Literal["symmetric", "standardised"] = "symmetric"
    classes: bool = False
    buffer: Count = 4096


class PyramidRecipe(Section):
    """How training examples become pyramids; see `lapgan.pyramid`.

    Args:
        operator: d(.) and u(.), by name.
        direct: I_k = d(I_0) in training, every level scaled from the finest image, as in the
            authors' code; by default I_{k+1} = d(I_k).
    """

    operator: Operator = "burt-adelson"
    direct: bool = False


def _as_section(value: Any) -> Any:
    """Reads `objective = "minimax"` as `objective = { kind = "minimax" }`."""
    return {"kind": value} if isinstance(value, str) else value


def _as_none(value: Any) -> Any:
    """Reads `feature_discriminator = false` as none, which TOML has no word for."""
    return None if value is False else value


class TrainingRecipe(Section):
    """How each level is trained.

    Args:
        batch: examples per step; the objective says how they are divided between real and
            generated ones (`lapgan.objectives.contract`).
        images: how many examples a level sees unless the command line says otherwise.
        objective: the losses of D and G, by name or as a table with a `kind`.
        generator_examples: what G is updated on: the `same` examples that D saw, or `fresh` ones
            with noise of their own, as in the authors' code.
        penalty: the gradient penalty of every level that has none of its own.
        optimiser: of D and of G.
        warm_up: the learning rates rise from 0 along a line in this many steps.
        generator_delay: G waits for this many steps, in which D alone learns; by default 0, and
            500 where G starts from a trained model without its D.
        clip_gradients: the largest norm of all gradients of a net; longer ones are scaled down.
        ema_half_life: the averaged weights forget half in this many images; 0 for no average, so
            that the last weights are sampled with.
        ema_ramp: but at the beginning sooner, in this fraction of the images seen.
        rollbacks: how often a level may go back to earlier weights when its training explodes, each
            time with half the learning rate; see `lapgan.training.rollback`.
    """

    batch: Annotated[int, Field(ge=2, multiple_of=2)] = 128
    images: Count = 10_000_000
    objective: Annotated[
        AnyObjective, Field(discriminator="kind"), BeforeValidator(_as_section)
    ] = NonSaturating()
    generator_examples: Literal["same", "fresh"] = "same"
    penalty: AnyPenalty | None = None
    optimiser: AnyOptimizer = Sgd()
    warm_up: Annotated[int, Field(ge=0)] = 0
    generator_delay: Annotated[int, Field(ge=0)] | None = None
    clip_gradients: Positive | None = None
    ema_half_life: Annotated[int, Field(ge=0)] = 20_000
    ema_ramp: Positive = 0.05
    rollbacks: Annotated[int, Field(ge=0)] = 0

    @property
    def draws(self) -> int:
        """How many minibatches a step draws: one for both nets, or one for each."""
        return 2 if self.generator_examples == "fresh" else 1

    def delay(self, *, for_new_discriminator: bool) -> int:
        """Returns for how many steps G waits; whether D is new, and G is not, counts by default."""
        if self.generator_delay is not None:
            return self.generator_delay
        return _DELAY_FROM_MODEL if for_new_discriminator else 0


class LevelRecipe(Section):
    """One level: its place in the pyramid, its nets, its noise, and how they are trained.

    Args:
        index: 0 is the finest; counted by the recipe.
        name: the size as the recipe writes it, such as `28` or `48x64`; the key in the recipe.
        generator: of the residual, or of the image at the coarsest level.
        discriminator: of residual and low-pass image.
        feature_discriminator: a second one beside it, on the feature maps of a pretrained net.
        noise: what the generator starts from.
        share: the level's share of a budget in minutes, relative to the other levels.
        rate: multiplies the learning rates of G and D.
        generator_rate: multiplies G's learning rate besides, so that G and D learn at two rates
            (Heusel et al., 2017).
        own_penalty: in a file `penalty`; takes the place of the one of `training`.
        supervised: the distance between generated and real residual in the loss of G: its weight,
            or a table; see `lapgan.supervised`.
        instance_noise: added to the features that D's head sees, real and generated alike, in
            standard deviations of these features (Sønderby et al., 2017).
        augment: D sees augmented images only, which keeps it from memorizing a small data set:
            true, or "shift" for shifts alone; see `lapgan.training.augment`.
        conditioning_noise: on the image that the level is conditioned on; G is given its standard
            deviation.
        generated_low: the fraction of a minibatch in which G works on low-pass images of generated
            coarser images; see `lapgan.training.coarse`.
        frozen: the level is not trained: a run takes it from the model that it starts from.
    """

    index: int = Field(ge=0, exclude=True)
    name: str = Field(exclude=True)
    generator: Annotated[AnyGenerator, Field(discriminator="kind")]
    discriminator: Annotated[AnyDiscriminator, Field(discriminator="kind")]
    feature_discriminator: Annotated[
        FeatureDiscriminatorSection | None, BeforeValidator(_as_none)
    ] = None
    noise: Annotated[AnyNoise, Field(discriminator="kind")]
    share: Positive = 1.0
    rate: Positive = 1.0
    generator_rate: Positive = 1.0
    own_penalty: AnyPenalty | None = Field(default=None, alias="penalty")
    supervised: AnySupervised = Supervised()
    instance_noise: NotNegative = 0.0
    augment: Literal[False, True, "shift"] = False
    conditioning_noise: ConditioningNoise | None = None
    generated_low: Annotated[float, Field(ge=0, le=1)] = 0.0
    frozen: bool = False
    _common_penalty: Penalty | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_noise(self) -> "LevelRecipe":
        expected = self.generator.takes_noise
        if not isinstance(self.noise, expected):
            kinds = " or ".join(repr(kind.model_fields["kind"].default) for kind in expected)
            raise ValueError(
                f"the generator {self.generator.kind!r} takes noise of kind {kinds}, "
                f"found {self.noise.kind!r}"
            )
        return self

    @field_serializer("supervised")
    def _shorten_supervised(self, supervised: Supervised) -> Any:
        return supervised.as_plain_data()

    @property
    def size(self) -> Size:
        """Height and width, in pixels."""
        return parse_size(self.name)

    @property
    def penalty(self) -> Penalty | None:
        """The gradient penalty: the level's own, or the one of `training`."""
        return self.own_penalty or self._common_penalty

    def build_generator(self, num_classes: int) -> nn.Module:
        """Builds the level's generator."""
        return self.generator.build(self.size, self.noise, num_classes)

    def build_discriminator(self, num_classes: int) -> nn.Module:
        """Builds the level's discriminator, with the second one beside it if there is one."""
        net = self.discriminator.build(self.size, num_classes)
        if self.feature_discriminator is None:
            return net
        return JointDiscriminator(net, self.feature_discriminator.build(self.size, num_classes))


class Recipe(Section):
    """Everything that shapes the result of a training run.

    In memory `levels` is a tuple, finest first; in a file it is a table keyed by size.
    """

    name: str
    description: str = ""
    data: DataRecipe = DataRecipe()
    pyramid: PyramidRecipe = PyramidRecipe()
    training: TrainingRecipe = TrainingRecipe()
    levels: tuple[LevelRecipe, ...]

    @model_validator(mode="before")
    @classmethod
    def _number_levels(cls, content: Any) -> Any:
        levels = content.get("levels") if isinstance(content, Mapping) else None
        if not isinstance(levels, Mapping):
            return content
        for key, level in levels.items():
            reserved = {"index", "name"} & set(level if isinstance(level, Mapping) else ())
            if reserved:
                raise ValueError(f"levels.{key}.{min(reserved)}: unknown key")
        numbered = [
            {**level, "index": index, "name": key} if isinstance(level, Mapping) else level
            for index, (key, level) in enumerate(levels.items())
        ]
        return {**content, "levels": numbered}

    @field_serializer("levels")
    def _key_levels(self, levels: tuple[LevelRecipe, ...], info: SerializationInfo) -> Any:
        return {level.name: level.model_dump(mode=info.mode, by_alias=True) for level in levels}

    @model_validator(mode="after")
    def _check_levels(self) -> "Recipe":
        try:
            check_sizes(self.sizes)
        except LapganError as error:
            raise ValueError(str(error)) from None
        *finer, coarsest = self.levels
        for level in finer:
            if not level.generator.takes_low:
                raise ValueError(
                    f"levels.{level.name}.generator: {level.generator.kind!r} takes no low-pass "
                    "image; only the coarsest level works from noise alone"
                )
        if coarsest.generator.takes_low:
            raise ValueError(
                f"levels.{coarsest.name}.generator: {coarsest.generator.kind!r} needs a low-pass "
                "image, but the coarsest level has none; use 'modern-dense', 'paper-dense', "
                "'paper-lsun-coarsest' or 'residual-coarsest'"
            )
        if coarsest.supervised.is_used and coarsest.supervised.best_of == 1:
            raise ValueError(
                f"levels.{coarsest.name}.supervised: the coarsest level has no low-pass image from "
                "which to predict; set it to 0, or best_of to 2 or more, found "
                f"{coarsest.supervised.weight:g}"
            )
        for level in self.levels:
            level._common_penalty = self.training.penalty
        return self

    @model_validator(mode="after")
    def _check_conditioning_noise(self) -> "Recipe":
        for level in self.levels:
            if level.conditioning_noise is None:
                continue
            key = f"levels.{level.name}.conditioning_noise"
            if not level.generator.takes_sigma:
                raise ValueError(
                    f"{key}: the generator {level.generator.kind!r} takes no sigma; use "
                    "'residual' or 'modern-patch' with takes_sigma = true at a level with a "
                    "low-pass image, or delete the key"
                )
            self._expect_symmetric(key, "its scale is that of images in [-1, 1]")
        return self

    @model_validator(mode="after")
    def _check_pretrained_features(self) -> "Recipe":
        for level in self.levels:
            for key in ("discriminator", "feature_discriminator"):
                if isinstance(getattr(level, key), FeatureDiscriminatorSection):
                    why = "the pretrained net expects images in [-1, 1]"
                    self._expect_symmetric(f"levels.{level.name}.{key}", why)
        return self

    @model_validator(mode="after")
    def _check_generated_low(self) -> "Recipe":
        for level in self.levels:
            if not level.generated_low:
                continue
            key = f"levels.{level.name}.generated_low"
            if level is self.levels[-1]:
                raise ValueError(f"{key}: the coarsest level has no low-pass image; delete the key")
            if level.supervised.is_used:
                raise ValueError(
                    f"{key}: a generated low-pass image has no real residual to compare with; set "
                    f"levels.{level.name}.supervised to 0, found {level.supervised.weight:g}"
                )
            self._expect_symmetric(key, "the images of the other model are in [-1, 1]")
        return self

    @model_validator(mode="after")
    def _check_frozen(self) -> "Recipe":
        frozen = [level for level in self.levels if level.frozen]
        if len(frozen) == len(self.levels):
            raise ValueError("levels: all are frozen; expected one or more that are trained")
        for level in frozen:
            key = f"levels.{level.name}.frozen"
            self._expect_symmetric(key, "the images of the other model are in [-1, 1]")
        return self

    def _expect_symmetric(self, key: str, why: str) -> None:
        """Raises a ValueError that names `key` if images are not in [-1, 1]."""
        if self.data.normalisation != "symmetric":
            raise ValueError(
                f"{key}: {why}; set data.normalisation to 'symmetric', found "
                f"{self.data.normalisation!r}"
            )

    @property
    def sizes(self) -> list[Size]:
        """The size of every level, finest first."""
        return [level.size for level in self.levels]

    @property
    def level_names(self) -> list[str]:
        """The name of every level, finest first."""
        return [level.name for level in self.levels]

    def level(self, name: str) -> LevelRecipe:
        """Returns the level of that name.

        Raises:
            LapganError: there is none.
        """
        for level in self.levels:
            if level.name == name:
                return level
        raise LapganError(
            f"level {name}: recipe {self.name} has the levels {', '.join(self.level_names)}."
        )
