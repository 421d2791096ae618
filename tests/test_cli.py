import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import lapgan
from lapgan.cli import app, main
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.recipe import recipe_names

TINY = [
    *("--set", "levels.32.generator.maps=4", "--set", "levels.32.discriminator.maps=4"),
    *("--set", "levels.16.generator.maps=4", "--set", "levels.16.discriminator.maps=4"),
    *("--set", "levels.8.generator.units=16", "--set", "levels.8.discriminator.units=8"),
    *("--set", "training.batch=8", "--images", "16", "--data", "dead-leaves:30"),
]


def run(*arguments: str | Path, error: type[BaseException] | None = None) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if error is None and result.exception is not None:
        raise result.exception
    if error is not None:
        assert isinstance(result.exception, error)
        return str(result.exception) + result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    output = run(
        "train", "dead-leaves", "--out", folder, *TINY, "--device", "cpu", "--precision", "float32"
    )
    assert "computing on cpu, float32 (as asked)" in output
    assert "data: dead-leaves, 30 images of 32x32, no classes" in output
    assert "wrote" in output
    return folder


def test_train_sample_and_info(trained: Path, tmp_path: Path):
    run("sample", trained, "--n", "9", "--out", tmp_path / "a.png", "--zoom", "2")
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (2 * (3 * 32 + 4),) * 2
    run("sample", trained / "cascade.safetensors", "--n", "3", "--out", tmp_path / "a.npz")
    run("sample", trained, "--n", "3", "--out", tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert (a["images"] == b["images"]).all()
    run("sample", trained, "--n", "2", "--chain", "--out", tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as chain:
        assert chain.size == (5 * 32 + 8, 2 * 32 + 2)
    output = run("info", trained)
    assert "level 16" in output
    assert "16 images in" in output


def test_the_same_command_continues(trained: Path):
    before = (trained / "level-8" / "state.safetensors").stat().st_mtime_ns
    output = run("train", "dead-leaves", "--out", trained, *TINY)
    # The run keeps its precision without the option.
    assert "float32 (as asked)" in output
    assert (trained / "level-8" / "state.safetensors").stat().st_mtime_ns == before


def test_a_dry_run_prints_its_plan_and_writes_nothing(tmp_path: Path):
    output = run("train", "dead-leaves", "--out", tmp_path / "run", *TINY, "--dry-run")
    assert '"maps": 4' in output
    assert "30 images of 32x32" in output
    assert "level 8: G " in output
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_a_trained_model(trained: Path, tmp_path: Path):
    command = ("train", "dead-leaves", "--out", tmp_path / "run", *TINY, "--seed", "1")
    model = trained / "cascade.safetensors"
    started = (*command, "--start-from", model)
    plan = run(*started, "--dry-run")
    assert f"level 8: G starts with the weights of {model}, and G waits 500 steps" in plan
    assert not (tmp_path / "run").exists()
    run(*started)
    # G waits for longer than this run takes, so that images are those of the model.
    images = lapgan.Cascade.load(tmp_path / "run").sample(4)
    assert (images == lapgan.Cascade.load(trained).sample(4)).all()
    assert f"on dead-leaves, from {model.name}, seed 1" in run("info", tmp_path / "run")
    other = run(
        "train", "dead-leaves", "--out", tmp_path / "2", *TINY, "--start-from", trained, "--dry-run"
    )
    assert f"level 8: G and D start with the weights of {trained}\n" in other
    # The same command, with the model and without, continues and has nothing left to do.
    assert "wrote" in run(*started)
    assert "wrote" in run(*command)
    changed = run(*command, "--start-from", "cifar10-cc-small", error=LapganError)
    assert "differs in start_from.fingerprint" in changed


@pytest.mark.parametrize("option", ["--skip-invalid", "--skip-bad"])
def test_images_that_cannot_be_used_are_skipped_when_asked(tmp_path: Path, option: str):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for i in range(10):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    (pictures / "bad.png").write_bytes(b"no image")
    command = ("train", "dead-leaves", "--out", tmp_path / "run", *TINY, "--data", pictures)
    assert "bad.png" in run(*command, "--dry-run", error=LapganError)
    assert "10 images of 32x32" in run(*command, "--dry-run", option)


def test_recipes_are_listed_and_printed():
    assert all(name in run("recipes") for name in recipe_names())
    assert "[levels.28]" in run("recipes", "paper-cifar10")


def test_a_run_is_packed_into_a_file_of_half_the_size(trained: Path, tmp_path: Path):
    packed, whole = tmp_path / "small.safetensors", trained / "cascade.safetensors"
    assert "small.safetensors, 0.0 MiB" in run("pack", trained, "--out", packed)
    assert "level 32" in run("info", packed)
    assert packed.stat().st_size < 0.8 * whole.stat().st_size
    assert "wrote" in run("pack", trained, "--out", packed, "--int8")
    assert "level 32" in run("info", packed)
    assert "expected a name" in run("pack", trained, "--out", tmp_path / "x", error=LapganError)


def test_wrong_arguments_are_named(trained: Path, tmp_path: Path):
    for message, arguments in (
        ("recipe nothing: there is no such file", ("train", "nothing", "--out", tmp_path / "r")),
        (
            "training.bach: unknown key; did you mean 'batch'?",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--set", "training.bach=3"),
        ),
        (
            "batch: unknown key; did you mean 'training.batch'?",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--set", "batch=3"),
        ),
        (
            "maps: unknown key; did you mean 'levels.SIZE.generator.maps'?",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--set", "maps=3"),
        ),
        (
            "plot.svg: cannot be written (Not a directory)",
            ("entropy", "x", "--sizes", "8,4", "--plot", trained / "run.json" / "plot.svg"),
        ),
        (
            "cannot be written (Not a directory)",
            ("sample", trained, "--out", trained / "run.json" / "a.png"),
        ),
        (
            "level 5: recipe dead-leaves has the levels 32, 16, 8",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--level", "5"),
        ),
        (
            "training for 0.0 minutes: expected more than 0",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--minutes", "0"),
        ),
        ("training for 0.0 minutes", ("classifier", trained, "--minutes", "0")),
        (
            "there is no such file or folder",
            ("train", "dead-leaves", "--out", tmp_path / "r", "--data", tmp_path / "none"),
        ),
        (
            "there is no such file or folder; expected a run folder, a .safetensors file, a model",
            ("train", "dead-leaves", "--out", tmp_path / "r", *TINY, "--start-from", "none"),
        ),
        (
            "--start-from cifar10-cc-small: level 8: G's tensor",
            ("train", "dead-leaves", *TINY, "--out", tmp_path, "--start-from", "cifar10-cc-small"),
        ),
        (
            "levels.32.generator.maps (there 4, here 24)",
            ("train", "dead-leaves", "--out", trained, "--data", "dead-leaves:30"),
        ),
        (
            "trained without classes",
            ("sample", trained, "--class", "cat", "--out", tmp_path / "a.png"),
        ),
        (
            "best of 2: this model (dead-leaves) has no classifier to choose by; it was trained",
            ("sample", trained, "--best-of", "2", "--out", tmp_path / "a.png"),
        ),
        ("there is nothing for a classifier to tell apart", ("classifier", trained)),
        ("no run folder (no run.json)", ("classifier", tmp_path / "none")),
        ("no such file or folder", ("sample", tmp_path / "none", "--out", tmp_path / "a.png")),
        ("--device gpu", ("sample", trained, "--out", tmp_path / "a.png", "--device", "gpu")),
        (
            "--precision half: expected auto, float32 or bfloat16",
            ("sample", trained, "--out", tmp_path / "a.png", "--precision", "half"),
        ),
        (
            "precision (there 'float32', here 'bfloat16')",
            ("train", "dead-leaves", "--out", trained, *TINY, "--precision", "bfloat16"),
        ),
        (
            "or the options of that run (--set KEY=VALUE for those of its recipe).",
            ("train", "dead-leaves", "--out", trained, *TINY, "--set", "training.ema_half_life=5"),
        ),
        (
            "best of 2: this model",
            ("evaluate", trained, "--data", "dead-leaves:60", "--best-of", "2"),
        ),
    ):
        assert message in run(*arguments, error=LapganError)
    assert list(tmp_path.iterdir()) == []


def test_main_prints_one_message_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["lapgan", "info", "[none]"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: [none]: there is no such file or folder")


def run_apart(
    code: str, *arguments: str | Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=False, text=True, timeout=120, **options)


def test_work_goes_on_when_nobody_reads_its_output_any_more(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from lapgan.cli.options import console\n"
        "for _ in range(1000): console.print('a line')\n"
        "Path(sys.argv[1]).write_text('done')"
    )
    read, write = os.pipe()
    os.close(read)
    finished = run_apart(code, tmp_path / "a", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (tmp_path / "a").read_text() == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals
):
    code = (
        "import os, signal; from lapgan.data import reading\n"
        # Whatever this test was started to ignore, as with nohup.
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"
        "from lapgan.cli import main\n"
        f"reading.decode = lambda content: os.kill(os.getpid(), {int(number)})\n"
        "main()"
    )
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a.png")
    arguments = ("prepare", tmp_path / "pictures", "--size", "8", "--out", tmp_path / "out")
    assert run_apart(code, *arguments).returncode == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_command_that_is_ended_while_it_fails_still_says_why():
    code = (
        "import signal; from lapgan import cli, errors\n"
        "def fail():\n"
        "    try: raise errors.LapganError('another rank has ended')\n"
        "    finally: signal.raise_signal(signal.SIGTERM)\n"
        "cli.app = fail; cli.main()"
    )
    finished = run_apart(code, stderr=subprocess.PIPE)
    assert (finished.returncode, finished.stderr) == (1, "error: another rank has ended\n")


def test_a_command_runs_with_its_streams_closed(tmp_path: Path):
    command = f"{sys.executable} -m lapgan cache >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode == 0


def test_the_cache_is_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAPGAN_CACHE", str(tmp_path / "cache"))
    for count in (3, 300):
        open_images(f"dead-leaves:{count}")
    lines = run("cache").splitlines()
    assert [line.split("MiB  ")[1] for line in lines[:2]] == [
        *("dead-leaves, 300 images 32x32", "dead-leaves, 3 images 32x32"),
    ]
    megabytes = 303 * 3 * 32 * 32 / 2**20
    assert float(lines[2].split()[0]) == pytest.approx(megabytes, abs=0.06)
    assert "removed from" in run("cache", "--clear")
    assert not list((tmp_path / "cache").glob("*/pixels.npy"))
    assert run("cache").startswith("       0.0 MiB  in ")
    assert len(open_images("dead-leaves:3")) == 3


def test_the_version_is_printed_and_help_has_a_short_form():
    assert run("--version") == f"lapgan {version('lapgan')}\n"
    assert run("sample", "-h") == run("sample", "--help")


def test_help_needs_no_pytorch():
    code = "import sys; import lapgan.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_tensorboard_its_option_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    command = ("train", "dead-leaves", "--out", tmp_path / "r", *TINY)
    output = run(*command, "--tensorboard", error=LapganError)
    assert "pip install -e '.[tensorboard]'" in output
    assert not list(tmp_path.rglob("*.safetensors"))
    assert "wrote" in run(*command)


@pytest.mark.data
def test_the_paper_recipes_train_on_cifar10(tmp_path: Path):
    assert "LAPGAN_DATA" in os.environ
    for recipe in ("paper-cifar10", "paper-cifar10-cc"):
        run("train", recipe, "--out", tmp_path / recipe, "--images", "256")
    cat = tmp_path / "cat.npz"
    run("sample", tmp_path / "paper-cifar10-cc", "--class", "cat", "--n", "3", "--out", cat)
    with np.load(cat) as archive:
        assert archive["images"].shape == (3, 28, 28, 3)
        assert archive["labels"].tolist() == [3, 3, 3]


def test_evaluate_writes_a_report_of_models_and_of_images(trained: Path, tmp_path: Path):
    out = tmp_path / "report"
    output = run(
        *("evaluate", f"mine={trained}", "theirs=dead-leaves:30", "--data", "dead-leaves:60"),
        *("--metrics", "parzen,multiscale-parzen", "--images", "24", "--quick", "--out", out),
    )
    for line in ("real training images: parzen", "mine: multiscale-parzen level 32x32",
                 "theirs: parzen", "report.html"):  # fmt: skip
        assert line in output
    report = json.loads((out / "report.json").read_text())
    rows = {(row["subject"], row["metric"]): row for row in report["measurements"]}
    assert rows["mine", "parzen"]["n"] == 24
    assert rows["mine", "parzen"]["details"]["dimension"] == 3 * 32 * 32
    assert rows["theirs", "parzen"]["error"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "fd", "--images", "24"), "24 generated images are too few: a covariance"),
        (("--metrics", "beauty"), "--metrics beauty: expected one of parzen"),
        (("--images", "61"), "60 training images, expected at least 61"),
        (("--metrics", "inception-score"), "needs --extractor inception"),
    ],
)
def test_evaluate_refuses_early(
    trained: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
):
    out = tmp_path / "report"
    command = ("evaluate", trained, "--data", "dead-leaves:60", "--quick", "--out", out)
    output = run(*command, *arguments, error=LapganError)
    assert message in output
    assert not out.exists()


def test_without_its_extra_evaluate_says_what_to_install(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # What is imported anew goes into the package as its attribute too: both are put back.
    monkeypatch.setattr(lapgan, "evaluation", import_module("lapgan.evaluation"))
    for name in [name for name in sys.modules if name.startswith("lapgan.evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    output = run("evaluate", trained, "--data", "dead-leaves:60", error=LapganError)
    assert "pip install -e '.[eval]'" in output


def test_train_keeps_the_best_weights_and_says_which(tmp_path: Path):
    command = ["train", "dead-leaves", "--out", tmp_path / "run", *TINY, "--level", "8",
               "--device", "cpu", "--select", "parzen"]  # fmt: skip
    plan = run(*command, "--dry-run")
    # The recipe's vector: values of 24 bits each.
    assert re.search(r"level 8: noise 'vector' of [\d,]+ bits per image, covariance of rank", plan)
    assert "no weights were selected yet; the first score is due after 50,000" in run(*command)
    output = run(*command, "--select-every", "8", "--images", "32")
    selected = re.search(r"level 8: selected the weights after (16|24|32) images \(parzen", output)
    assert selected is not None
    assert (tmp_path / "run" / "level-8" / "best.safetensors").exists()
    assert "expected one of parzen, fd" in run(*command[:-1], "best", error=LapganError)
