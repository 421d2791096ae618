"""Levels that a run takes from the model that it starts from, and does not train."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from levels import write_model
from tiny_recipe import TINY

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.recipe import Recipe, check_recipe
from lapgan.run_folder import RunFolder
from lapgan.runs import summarize_run
from lapgan.training.callbacks import Callback
from lapgan.training.config import RunConfig
from lapgan.training.run import plan, train
from lapgan.weights import generator_state, read_weights

DATA = "dead-leaves:40"


def recipe_with(levels: dict[str, dict[str, Any]], **sections: Any) -> Recipe:
    """The tiny recipe at sizes 32 and 8, with keys of its levels."""
    fine, coarsest = (TINY["levels"][name] for name in ("12", "6x8"))
    changed = {"32": fine | levels.get("32", {}), "8": coarsest | levels.get("8", {})}
    training = TINY["training"] | {"generator_delay": 0}
    return check_recipe(TINY | sections | {"levels": changed, "training": training}, "tiny")


@pytest.fixture
def config(run_folder: Path) -> RunConfig:
    model = write_model(run_folder.with_name("model.safetensors"), recipe_with({}))
    recipe = recipe_with({"8": {"frozen": True}})
    return RunConfig(recipe, run_folder, DATA, device="cpu", images=8, start_from=model)


def tensors_of(path: Path, level: str) -> dict[str, Any]:
    return {n: t.tolist() for n, t in generator_state(level, read_weights(path).tensors).items()}


def test_a_run_is_a_whole_model_whose_frozen_level_is_that_of_the_other(config: RunConfig):
    cascade = train(config, Callback())
    assert cascade is not None
    assert config.start_from is not None
    assert tensors_of(config.out, "8") == tensors_of(config.start_from, "8")
    assert tensors_of(config.out, "32") != tensors_of(config.start_from, "32")
    loaded = Cascade.load(config.out)
    assert loaded.sample(2).equal(cascade.sample(2))
    other = Cascade.load(config.start_from)
    first, second = (next(iter(c.stages(2, finest=1)))[-1].image for c in (loaded, other))
    assert first.equal(second)


def test_a_run_goes_on_without_the_model(config: RunConfig):
    train(config, Callback())
    before = tensors_of(config.out, "32")
    assert train(replace(config, start_from=None, images=16), Callback()) is not None
    assert tensors_of(config.out, "32") != before


def test_a_frozen_level_trains_the_next_one_in_its_place(config: RunConfig):
    levels = {"8": {"frozen": True}, "32": {"generated_low": 0.5}}
    generated = replace(config, recipe=recipe_with(levels))
    assert train(generated, Callback()) is not None
    plain = replace(config, out=config.out.with_name("plain"))
    train(plain, Callback())
    assert tensors_of(generated.out, "32") != tensors_of(plain.out, "32")


def test_the_figures_of_a_frozen_level_are_those_of_its_training(config: RunConfig):
    train(replace(config, recipe=recipe_with({}), start_from=None), Callback())
    out = config.out.with_name("next")
    train(replace(config, out=out, start_from=config.out), Callback())
    figures = read_weights(out).training
    assert figures["8"] == read_weights(config.out).training["8"]
    assert "start_from" in figures["32"]


def test_a_plan_names_frozen_levels_and_writes_nothing(config: RunConfig):
    lines = [*plan(config)]
    assert f"level 8: frozen, as it is in {config.start_from}" in lines
    assert not any(line.startswith("level 8: G") for line in lines)
    assert not config.out.exists()


def test_a_run_has_ended_when_its_trained_levels_have(config: RunConfig):
    train(config, Callback())
    summary = summarize_run(config.out)
    assert [level.name for level in summary.levels] == ["32"]
    assert summary.state == "finished"


def test_all_the_time_goes_to_the_trained_levels(config: RunConfig):
    config = replace(config, minutes=3.0, images=None)
    (level,) = config.selected_levels
    assert (level.name, config.budget(level).seconds) == ("32", 180)


def test_without_a_model_it_is_refused_before_anything_is_written(config: RunConfig):
    for run in (lambda each: train(each, Callback()), lambda each: [*plan(each)]):
        with pytest.raises(
            LapganError, match=r"levels\.8\.frozen: .*: --start-from MODEL; or set it to false"
        ):
            run(replace(config, start_from=None))
    assert not config.out.exists()


def test_to_train_a_frozen_level_is_refused(config: RunConfig):
    with pytest.raises(LapganError, match=r"level 8: .* --set levels\.8\.frozen=false"):
        replace(config, levels=("8",))


@pytest.mark.parametrize(
    ("levels", "sections", "message"),
    [
        ({"8": {"noise": {"kind": "vector", "dimension": 7}}}, {}, r"G's tensor .*Use the gener"),
        ({}, {"pyramid": {"operator": "block-mean"}}, r"operator: expected burt-adelson, .*block"),
        ({}, {"data": {"normalisation": "standardised"}}, r"normalisation: expected symmetric"),
    ],
)
def test_a_level_of_another_model_is_refused(
    config: RunConfig, levels: dict[str, Any], sections: dict[str, Any], message: str
):
    path = write_model(config.out.with_name("other.safetensors"), recipe_with(levels, **sections))
    with pytest.raises(LapganError, match=rf"--start-from .*other.*: level 8: .*{message}"):
        train(replace(config, start_from=path), Callback())
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("levels", "sections", "message"),
    [
        ({"8": {"frozen": True}, "32": {"frozen": True}}, {}, "levels: all are frozen"),
        (
            {"8": {"frozen": True}},
            {"data": {"normalisation": "standardised"}},
            r"levels\.8\.frozen: .*'symmetric', found 'standardised'",
        ),
    ],
)
def test_a_recipe_in_which_it_makes_no_sense_is_refused(
    levels: dict[str, Any], sections: dict[str, Any], message: str
):
    with pytest.raises(LapganError, match=message):
        recipe_with(levels, **sections)


def test_the_record_of_an_older_run_has_no_frozen_levels(config: RunConfig):
    config = replace(config, recipe=recipe_with({}), start_from=None)
    train(config, Callback())
    path = RunFolder(config.out).identity
    recorded = json.loads(path.read_text())
    for level in recorded["recipe"]["levels"].values():
        del level["frozen"]
    path.write_text(json.dumps(recorded))
    assert len(summarize_run(config.out).levels) == 2
    assert train(replace(config, images=16), Callback()) is not None
