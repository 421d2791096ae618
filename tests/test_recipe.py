import tomllib
from pathlib import Path

import pytest
import torch

from lapgan.errors import LapganError
from lapgan.recipe import Recipe, check_recipe, read_recipe, recipe_names, recipe_text
from lapgan.sizes import parse_size


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_can_be_read_and_built(name: str):
    recipe = read_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        for k, size in enumerate(recipe.sizes):
            recipe.level(k).build_generator(size, 10)
            recipe.level(k).discriminator.build(size, 10)


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
        }
        assert recipe.data.crop == "corners"
        assert recipe.data.classes == name.endswith("-cc")
        assert recipe.level(2).generator.model_dump()["units"] == 1200
        assert recipe.level(2).discriminator.model_dump()["units"] == 600


def test_a_recipe_survives_its_way_through_plain_data(tiny: Recipe):
    assert check_recipe(tiny.model_dump(mode="json"), "again") == tiny


def test_a_recipe_is_read_from_a_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(recipe_text("paper-cifar10").replace("maps = 64", "maps = 32"))
    assert read_recipe(path).level(0).generator.model_dump()["maps"] == 32


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
    assert recipe.level(0).generator.model_dump()["maps"] == 16
    assert recipe.pyramid.operator == "block-mean"
    assert recipe.data.flip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.bach=64", r"training\.bach: unknown key; did you mean 'batch'\?"),
        ("levels.28.generator.mapz=3", r"levels\.28\.generator\.mapz: unknown key"),
        ("levels.28.generator.maps=0", r"levels\.28\.generator\.maps: .*greater than 0, found 0"),
        ("training.batch=127", r"training\.batch: .*multiple of 2, found 127"),
        ("training.optimiser.momentum=2", r"training\.optimiser\.momentum: .*found 2"),
        ("pyramid.operator=haar", r"pyramid\.operator: .*burt-adelson.*found 'haar'"),
        ("levels.28.noise.kind=vector", r"levels\.28: .*takes noise of kind 'plane' or 'hashed'"),
        ("levels.8.generator.kind=paper-conv", r"levels\.8\.generator\.units: unknown key"),
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
    with pytest.raises(LapganError, match=r"levels\.14\.generator: 'paper-dense' cannot see"):
        check_recipe(content | {"levels": {"28": fine, "14": coarse, "8": coarse}}, "mine")
    with pytest.raises(LapganError, match=r"levels\.14\.generator: 'paper-conv' needs a low-pass"):
        check_recipe(content | {"levels": {"28": fine, "14": middle}}, "mine")
    with pytest.raises(LapganError, match="paper-conv needs at least 9 pixels"):
        check_recipe(content, "mine").level(0).discriminator.build((8, 8), 0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.objective=minimax"], "training.penalty: only the objective 'relativistic'"),
        (
            ["levels.32.discriminator={kind='paper-conv'}"],
            r"levels\.32\.discriminator: training.penalty needs 'modern-patch'",
        ),
        (
            ["levels.4.discriminator={kind='paper-dense'}"],
            r"levels\.4\.discriminator: levels.4.penalty needs 'modern-patch'",
        ),
        (["training.exposure=1.5"], r"training\.exposure: .*found 1.5"),
        (["training.penalty.every=0"], r"training\.penalty\.every: .*greater than 0"),
        (["levels.16.penalty.every=0"], r"levels\.16\.penalty\.every: .*greater than 0"),
    ],
)
def test_a_penalty_must_fit(overrides: list[str], message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe("cifar10-cc", overrides)


def test_a_classifier_in_d_needs_pairs_and_leaves_time_for_the_game():
    change = "levels.14.discriminator={kind='projected'}"
    with pytest.raises(LapganError, match=r"discriminator 'projected': only the objective 'rel"):
        read_recipe("paper-cifar10", [change])
    with pytest.raises(LapganError, match=r"discriminator\.study: .*less than 1"):
        read_recipe("cifar10", ["levels.8.discriminator={kind='projected',study=1}"])


def test_a_level_may_have_a_penalty_of_its_own():
    recipe = read_recipe("cifar10", ["training.penalty.weight=1", "levels.8.penalty.weight=0.2"])
    found = [recipe.penalty(k) for k in range(4)]
    assert [penalty and penalty.weight for penalty in found] == [1, 1, 0.2, 0.1]
    with pytest.raises(LapganError, match=r"levels\.8\.penalty: only the objective"):
        read_recipe("paper-cifar10", ["levels.8.penalty.weight=1"])


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cifar10", ["training.exposure=0.5"], "have no residual to compare with"),
        ("cifar10", ["levels.4.supervised=1"], "needs the generator 'modern-patch', found"),
        ("paper-cifar10", ["levels.14.supervised=1"], "only the objective 'relativistic' has it"),
    ],
)
def test_supervision_must_fit(name: str, overrides: list[str], message: str):
    with pytest.raises(LapganError, match=rf"levels\.\d+\.supervised: .*{message}"):
        read_recipe(name, overrides)


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


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("paper-cifar10", ["levels.14.instance_noise=1"], "only the objective 'relativistic'"),
        ("cifar10", ["levels.32.instance_noise=-1"], "greater than or equal to 0"),
    ],
)
def test_instance_noise_must_fit(name: str, overrides: list[str], message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe(name, overrides)


def test_augmentation_needs_a_discriminator_that_looks():
    assert read_recipe("cifar10", ["levels.8.augment=true"]).levels["8"].augment
    with pytest.raises(LapganError, match=r"levels\.14\.augment.*only the objective 'relativ"):
        read_recipe("paper-cifar10", ["levels.14.augment=true"])
