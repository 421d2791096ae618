import tomllib
from pathlib import Path

import pytest
import torch

from lapgan.errors import LapganError
from lapgan.penalty import ExactPenalty, FiniteDifferencePenalty
from lapgan.recipe import (
    Recipe,
    change_sampling,
    check_recipe,
    read_recipe,
    recipe_names,
    recipe_text,
)
from lapgan.sizes import parse_size
from lapgan.weights import read_weights


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_can_be_read_and_built(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    recipe = read_recipe(name)
    assert recipe.name == name
    if any(x.discriminator.kind == "features" or x.feature_discriminator for x in recipe.levels):
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `features`")
    # Nothing can be loaded without memory.
    monkeypatch.setattr("lapgan.models.efficientnet._load_weights", lambda *_: None)
    with torch.device("meta"):
        for level in recipe.levels:
            level.build_generator(10)
            level.build_discriminator(10)


def test_the_paper_recipes_say_what_the_paper_says():
    for name in ("paper-cifar10", "paper-cifar10-cc"):
        recipe = read_recipe(name)
        assert recipe.sizes == [(28, 28), (14, 14), (8, 8)]
        assert recipe.training.batch == 128
        assert recipe.training.optimiser.model_dump() == {
            "kind": "sgd",
            "learning_rate": 0.02,
            "decay": 4e-5,
            "momentum": 0.5,
            "momentum_step": 0.0008,
            "momentum_max": 0.8,
            "dampening": "momentum",
        }
        assert recipe.data.crop == "corners"
        assert recipe.data.classes == name.endswith("-cc")
        assert recipe.level("8").generator.model_dump()["units"] == 1200
        assert recipe.level("8").discriminator.model_dump()["units"] == 600


def test_the_recipes_for_stl10_and_lsun_have_the_levels_and_nets_of_the_paper():
    stl10, lsun = read_recipe("paper-stl10"), read_recipe("paper-lsun")
    assert stl10.sizes == [(side, side) for side in (96, 64, 32, 16, 8)]
    assert lsun.sizes == [(side, side) for side in (64, 32, 16, 8, 4)]
    assert read_recipe("gan-baseline-stl10").sizes == [(96, 96)]
    paper = read_recipe("paper-cifar10")
    for recipe in (stl10, lsun):
        assert recipe.training.model_copy(update={"rollbacks": 0}) == paper.training
        assert recipe.data.normalisation == "standardised"
    assert stl10.level("8") == paper.level("8").model_copy(update={"index": 4})
    for level in stl10.levels[:-1]:
        assert (level.generator, level.discriminator) == (
            paper.levels[0].generator,
            paper.levels[0].discriminator,
        )
    for level in lsun.levels:
        assert level.generator.model_dump()["maps"] == (64, 368, 128, 224)
        assert level.discriminator.model_dump()["maps"] == (48, 448, 416)
    assert lsun.levels[-1].noise.model_dump()["planes"] * 16 == 96


def test_a_recipe_survives_its_way_through_plain_data(tiny: Recipe):
    assert check_recipe(tiny.model_dump(mode="json"), "again") == tiny


def test_a_recipe_is_read_from_a_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(recipe_text("paper-cifar10").replace("maps = 64", "maps = 32"))
    assert read_recipe(path).level("28").generator.model_dump()["maps"] == 32


def test_keys_are_overridden_with_values_as_in_toml():
    recipe = read_recipe(
        "paper-cifar10",
        [
            "training.batch = 64",
            "levels.28.generator.maps=16",
            "pyramid.operator=block-mean",
            'data={ crop = "corners", flip = true }',
        ],
    )
    assert recipe.training.batch == 64
    assert recipe.level("28").generator.model_dump()["maps"] == 16
    assert recipe.pyramid.operator == "block-mean"
    assert recipe.data.flip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "levels.28.generator.units=1",
            r"levels\.28\.generator\.units: unknown key for this kind; others have it",
        ),
        ("training.bach=64", r"training\.bach: unknown key; did you mean 'batch'\?"),
        ("levels.28.generator.mapz=3", r"levels\.28\.generator\.mapz: unknown key"),
        ("levels.28.generator.maps=0", r"levels\.28\.generator\.maps: .*greater than 0, found 0"),
        (f"levels.28.generator.maps=1{30 * '0'}", r"levels\.28\.generator\.maps: .*less than or"),
        ("training.batch=127", r"training\.batch: .*multiple of 2, found 127"),
        ("training.optimiser.momentum=2", r"training\.optimiser\.momentum: .*found 2"),
        ("pyramid.operator=haar", r"pyramid\.operator: .*burt-adelson.*found 'haar'"),
        ("levels.28.noise.kind=mixed", r"levels\.28: .*takes noise of kind 'plane' or 'hashed'"),
        ("levels.8.generator.kind=paper-conv", r"levels\.8\.generator\.units: unknown key"),
        ("training.penalty.weight=0", r"training\.penalty\.weight: .*greater than 0, found 0"),
        ("training.penalty.wait=1", r"training\.penalty\.wait: unknown key; did you mean 'weig"),
        ("levels.14.penalty.every=0", r"levels\.14\.penalty\.every: .*greater than 0, found 0"),
        ('levels.14.penalty={ kind = "exact", scale = 1 }', r"14\.penalty\.scale: unknown key"),
        ("training.penalty.kind=r1", r"training\.penalty: .*'finite-difference', 'exact'"),
        ("training.clip_gradients=0", r"training\.clip_gradients: .*greater than 0, found 0"),
        ("training.warm_up=-1", r"training\.warm_up: .*found -1"),
        ("training.ema_ramp=0", r"training\.ema_ramp: .*greater than 0, found 0"),
        ("training.rollbacks=-1", r"training\.rollbacks: .*found -1"),
        ("training.optimiser.dampening=all", r"optimiser\.dampening: .*'momentum', found 'all'"),
        ("batch", "expected key=value"),
        ("training.batch.size=3", "batch is a value"),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe("paper-cifar10", [override])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["8", "14", "28"], "8x8 is followed by 14x14"),
        (["28", "0", "8"], "at least 1 pixel"),
        (["28", "big", "8"], "levels.big: a level is named by its size"),
        (["28", "28x28", "8"], "stands twice"),
    ],
)
def test_sizes_must_descend(sizes: list[str], message: str):
    content = tomllib.loads(recipe_text("paper-cifar10"))
    levels = dict(zip(sizes, content["levels"].values(), strict=True))
    with pytest.raises(LapganError, match=message):
        check_recipe(content | {"levels": levels}, "mine")


def test_a_generator_must_fit_its_place():
    content = tomllib.loads(recipe_text("paper-cifar10"))
    fine, middle, coarse = content["levels"].values()
    with pytest.raises(
        LapganError, match=r"levels\.14\.generator: 'paper-dense' takes no low-pass"
    ):
        check_recipe(content | {"levels": {"28": fine, "14": coarse, "8": coarse}}, "mine")
    with pytest.raises(LapganError, match=r"levels\.14\.generator: 'paper-conv' needs a low-pass"):
        check_recipe(content | {"levels": {"28": fine, "14": middle}}, "mine")
    with pytest.raises(LapganError, match="paper-conv needs at least 9 pixels"):
        check_recipe(content | {"levels": {"8": fine, "4": coarse}}, "mine").level(
            "8"
        ).build_discriminator(0)


def test_a_penalty_without_a_kind_is_by_finite_differences_as_in_earlier_versions():
    old = read_recipe(
        "paper-cifar10", ["training.penalty={ weight = 1.0, every = 4, scale = 0.2 }"]
    )
    new = read_recipe("paper-cifar10", ['training.penalty={ kind = "exact", decay = "cosine" }'])
    assert old.levels[0].penalty == FiniteDifferencePenalty(weight=1.0, every=4, scale=0.2)
    assert new.levels[0].penalty == ExactPenalty(decay="cosine")
    assert check_recipe(old.model_dump(mode="json"), "again") == old
    assert check_recipe(new.model_dump(mode="json"), "again") == new


def test_terms_go_with_every_objective_and_discriminator():
    recipe = read_recipe(
        "paper-cifar10",
        [
            *("training.penalty.weight=2", "levels.14.penalty.weight=0.5"),
            *("levels.28.supervised=1", "levels.28.instance_noise=0.1", "levels.28.augment=true"),
        ],
    )
    fine, middle, coarse = recipe.levels
    assert recipe.training.objective.kind == "non-saturating"
    assert fine.discriminator.kind == "paper-conv"
    assert [level.penalty and level.penalty.weight for level in recipe.levels] == [2, 0.5, 2]
    assert (fine.supervised.weight, fine.instance_noise, fine.augment) == (1, 0.1, True)
    assert (middle.supervised.weight, middle.instance_noise, middle.augment) == (0, 0, False)
    assert (coarse.supervised.weight, coarse.instance_noise, coarse.augment) == (0, 0, False)


@pytest.mark.parametrize("name", ["cifar10-small", "paper-cifar10", "dead-leaves"])
def test_only_the_coarsest_level_cannot_be_supervised(name: str):
    *finer, coarsest = read_recipe(name).level_names
    for level in finer:
        recipe = read_recipe(name, [f"levels.{level}.supervised=1"])
        assert recipe.level(level).supervised.weight == 1
    message = rf"levels\.{coarsest}\.supervised: the coarsest level has no low-pass .* found 1"
    with pytest.raises(LapganError, match=message):
        read_recipe(name, [f"levels.{coarsest}.supervised=1"])


def test_a_level_may_have_a_penalty_of_its_own():
    recipe = read_recipe(
        "cifar10-small", ["training.penalty.weight=1", "levels.8.penalty.weight=0.2"]
    )
    penalties = [level.penalty for level in recipe.levels]
    assert [penalty and penalty.weight for penalty in penalties] == [1, 1, 0.2, 0.1]
    without = read_recipe("paper-cifar10", ["levels.8.penalty.weight=0.2"])
    assert [level.penalty and level.penalty.weight for level in without.levels] == [None, None, 0.2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.penalty.every=0", r"training\.penalty\.every: .*greater than 0, found 0"),
        ("levels.16.penalty.every=0", r"levels\.16\.penalty\.every: .*greater than 0"),
        (
            "levels.32.instance_noise=-1",
            r"levels\.32\.instance_noise: .*greater than or equal to 0",
        ),
        ("levels.32.supervised=-1", r"levels\.32\.supervised: .*greater than or equal to 0"),
        (
            "levels.32.augment=perhaps",
            r"levels\.32\.augment: .*False, True or .shift., found .perhaps.",
        ),
        ("levels.32.own_penalty={weight=1}", r"levels\.32\.own_penalty: unknown key"),
        ("levels.32.index=0", r"levels\.32\.index: unknown key"),
        ("levels.32.name=x", r"levels\.32\.name: unknown key"),
    ],
)
def test_wrong_terms_of_a_level_are_named(override: str, message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe("cifar10-cc", [override])


def test_a_level_knows_its_place(tiny: Recipe):
    fine, coarse = tiny.levels
    assert (fine.index, fine.name, fine.size) == (0, "12", (12, 12))
    assert (coarse.index, coarse.name, coarse.size) == (1, "6x8", (6, 8))
    assert tiny.sizes == [(12, 12), (6, 8)]
    assert tiny.level_names == ["12", "6x8"]
    assert tiny.level("6x8") is coarse
    with pytest.raises(LapganError, match="level 7: recipe paper-cifar10 has the levels 28, 14, 8"):
        read_recipe("paper-cifar10").level("7")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("training.objective=minimax", "minimax"),
        ("training.objective={ kind = 'relativistic' }", "relativistic"),
    ],
)
def test_an_objective_is_a_name_or_a_section(text: str, kind: str):
    recipe = read_recipe("paper-cifar10", [text])
    assert recipe.training.objective.kind == kind
    assert check_recipe(recipe.model_dump(mode="json"), "again") == recipe


def with_training(**keys: object) -> dict[str, object]:
    content = tomllib.loads(recipe_text("paper-cifar10"))
    return content | {"training": content["training"] | keys}


def test_the_exposure_of_earlier_versions_is_read_if_it_was_0_and_explained_otherwise():
    assert check_recipe(with_training(exposure=0), "old") == check_recipe(with_training(), "old")
    assert check_recipe(with_training(exposure=0.0), "old") == check_recipe(with_training(), "old")
    with pytest.raises(LapganError, match=r"recipe old: training\.exposure: .* delete the key"):
        check_recipe(with_training(exposure=0.5), "old")


def test_the_projected_discriminator_of_earlier_versions_is_refused():
    with pytest.raises(LapganError, match=r"levels\.8\.discriminator.*'projected'.*modern-patch"):
        read_recipe("cifar10", ["levels.8.discriminator={kind='projected'}"])


def test_an_unknown_recipe_and_a_broken_file_are_named(tmp_path: Path):
    with pytest.raises(LapganError, match=r"recipe nothing: .*paper-cifar10"):
        read_recipe("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(LapganError, match=r"broken\.toml: this is not TOML"):
        read_recipe(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(LapganError, match=r"broken\.toml: this is not text"):
        read_recipe(broken)


def test_sizes_are_square_or_height_by_width():
    assert parse_size("28") == (28, 28)
    assert parse_size("48x64") == (48, 64)


def test_a_recipe_saved_by_a_windows_editor_is_read(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("\ufeff" + recipe_text("paper-cifar10"), encoding="utf-8")
    assert read_recipe(path) == read_recipe("paper-cifar10")


@pytest.mark.parametrize("size", ["", "-small", "-medium"])
def test_the_recipes_with_and_without_classes_differ_in_nothing_else(size: str):
    with_classes = read_recipe(f"cifar10-cc{size}").model_dump(mode="json")
    without = read_recipe(f"cifar10{size}", ["data.classes=true"]).model_dump(mode="json")
    for content in (with_classes, without):
        del content["name"], content["description"]
    assert without == with_classes


@pytest.mark.parametrize(
    ("name", "model", "then"),
    [
        ("cifar10-cc-small", "cifar10-cc-small", "cifar10-cc"),
        ("cifar10-small", "cifar10-uncond", "cifar10"),
    ],
)
def test_a_small_recipe_is_that_of_its_packaged_model_but_for_batch_and_conditioning_noise(
    name: str, model: str, then: str
):
    content = read_recipe(name, ["training.batch=32"]).model_dump(mode="json")
    content["name"] = then
    for size in ("32", "16"):
        assert content["levels"][size].pop("conditioning_noise")["sample"] == 0
        assert content["levels"][size]["generator"].pop("takes_sigma")
    assert check_recipe(content, then) == read_weights(Path(model)).recipe


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        # Its level 32 was trained further, and is sampled with more conditioning noise since.
        ("cifar10-cc", ["levels.32.conditioning_noise.sample=0.055"]),
        ("cifar10-cc-finetune", []),
    ],
)
def test_a_recipe_builds_the_nets_of_the_packaged_model(name: str, sampling: list[str]):
    packaged = read_weights(Path("cifar10-cc")).recipe
    recipe = change_sampling(read_recipe(name), sampling)
    assert packaged.pyramid == recipe.pyramid
    for level, other in zip(packaged.levels, recipe.levels, strict=True):
        assert (level.name, level.generator, level.noise, level.conditioning_noise) == (
            other.name, other.generator, other.noise, other.conditioning_noise,
        )  # fmt: skip


def test_a_trained_model_may_be_sampled_with_other_conditioning_noise():
    recipe = read_recipe("photos64")
    changed = change_sampling(recipe, ["levels.16.conditioning_noise.sample=0.01"])
    noises = [level.conditioning_noise for level in changed.levels]
    assert [noise and noise.sample for noise in noises] == [0.04, 0.04, 0.01, None]
    assert change_sampling(changed, ["levels.16.conditioning_noise.sample=0.06"]) == recipe


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("photos64", "training.batch=2", r"for good; expected one of levels\.64\.conditioning"),
        ("photos64", "levels.8.conditioning_noise.sample=0", r"sample=0: .* expected one of "),
        ("photos64", "levels.16.conditioning_noise.sample=-1", r"sample: .*greater than or equal"),
        ("paper-cifar10", "levels.28.conditioning_noise.sample=0", "want of conditioning noise"),
    ],
)
def test_nothing_else_of_a_trained_model_can_be_changed(recipe: str, override: str, message: str):
    with pytest.raises(LapganError, match=message):
        change_sampling(read_recipe(recipe), [override])
