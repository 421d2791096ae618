import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lapgan.errors import LapganError
from lapgan.study import stimuli
from lapgan.study.design import CATCH, REAL, Design
from lapgan.study.stimuli import draw_images, freeze, load_study, png_bytes

SMALL = Design(
    trials=8, blocks=1, practice_trials=2, catch_trials=1, examples=2, images_per_source=8
)


def make_images(count, size=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_set(images):
    return {image.tobytes() for image in images}


def write_npz(path, images):
    np.savez(path, images=images)
    return str(path)


def test_a_folder_gives_its_images_without_replacement(tmp_path):
    images = make_images(9)
    for number, image in enumerate(images):
        folder = tmp_path / f"class-{number % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert as_set(draw_images(str(tmp_path), 9, [0], "test")) == as_set(images)
    few = draw_images(str(tmp_path), 4, [0], "test")
    assert few.shape == (4, 6, 6, 3)
    assert len(as_set(few)) == 4
    np.testing.assert_array_equal(few, draw_images(str(tmp_path), 4, [0], "test"))


def test_npz_and_parquet_give_the_same_pixels(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = make_images(7)
    npz = write_npz(tmp_path / "x.npz", images)
    cells = [{"bytes": png_bytes(image), "path": None} for image in images]
    pq.write_table(pa.table({"img": cells, "label": list(range(7))}), tmp_path / "x.parquet")
    parquet = draw_images(str(tmp_path / "x.parquet"), 7, [1], "test")
    np.testing.assert_array_equal(draw_images(npz, 7, [1], "test"), parquet)
    assert as_set(parquet) == as_set(images)


def test_a_run_is_sampled_by_the_packages_own_command(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "level-8").mkdir(parents=True)
    called = []

    def fake_run(command, **_options):
        called.append(command)
        np.savez(command[command.index("--out") + 1], images=make_images(5))
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(subprocess, "run", fake_run)
    assert as_set(draw_images(str(run), 5, [0], "test")) == as_set(make_images(5))
    command = called[0]
    assert command[:5] == [sys.executable, "-m", "lapgan", "sample", str(run)]
    assert command[command.index("--n") + 1] == "5"


def test_a_run_that_cannot_be_sampled_says_why(tmp_path, monkeypatch):
    (tmp_path / "level-8").mkdir()
    failed = SimpleNamespace(returncode=1, stderr="boom\nweights are missing", stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: failed)
    with pytest.raises(LapganError, match="weights are missing"):
        draw_images(str(tmp_path), 1, [0], "test")


def test_a_named_source_comes_from_the_data_layer(monkeypatch):
    images = make_images(5)
    source = SimpleNamespace(pixels=images.transpose(0, 3, 1, 2))
    layer = SimpleNamespace(open_images=lambda name, split: source)
    monkeypatch.setattr(stimuli, "import_module", lambda name: layer)
    assert as_set(draw_images("cifar10", 5, [0], "test")) == as_set(images)


def test_a_folder_that_holds_no_image_files_is_opened_by_the_data_layer(tmp_path, monkeypatch):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = make_images(5)
    (tmp_path / "cifar10").mkdir()
    cells = [{"bytes": png_bytes(image), "path": None} for image in images]
    pq.write_table(pa.table({"img": cells, "label": [0] * 5}), tmp_path / "cifar10/test.parquet")
    monkeypatch.setenv("LAPGAN_DATA", str(tmp_path))
    assert as_set(draw_images("cifar10", 5, [0], "test")) == as_set(images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "nowhere.png"), "no such file"),
        (
            lambda folder: write_npz(folder / "few.npz", make_images(2)),
            "2 images, expected at least",
        ),
        (
            lambda folder: write_npz(folder / "float.npz", np.zeros((9, 4, 4, 3))),
            "expected uint8",
        ),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, make, message):
    with pytest.raises(LapganError, match=message):
        draw_images(make(tmp_path), 5, [0], "test")


def test_an_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(LapganError, match="expected an npz"):
        draw_images(str(tmp_path / "evil.npz"), 1, [0], "test")


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    with pytest.raises(LapganError, match=r"broken\.png"):
        draw_images(str(tmp_path), 1, [0], "test")


def test_images_of_different_sizes_are_refused(tmp_path):
    for size in (4, 6):
        Image.fromarray(make_images(1, size)[0]).save(tmp_path / f"{size}.png")
    with pytest.raises(LapganError, match="found 4x4, 6x6"):
        draw_images(str(tmp_path), 2, [0], "test")


@pytest.fixture
def sources(tmp_path):
    return {
        "real": write_npz(tmp_path / "real.npz", make_images(30, seed=1)),
        "gan": write_npz(tmp_path / "gan.npz", make_images(30, seed=2)),
        "large": write_npz(tmp_path / "large.npz", make_images(30, size=8, seed=3)),
    }


def test_freezing_is_exact_for_real_and_fake(tmp_path, sources):
    study = freeze(tmp_path / "study", SMALL, sources["real"], {"gan": sources["gan"]})
    originals = {
        "real": as_set(make_images(30, seed=1)),
        "gan": as_set(make_images(30, seed=2)),
    }
    zoom = study.manifest.zoom
    assert zoom == 256 // 6
    for item in study.manifest.stimuli:
        with Image.open(study.path_of(item.name)) as image:
            assert (image.mode, image.info) == ("RGB", {})
            pixels = np.asarray(image)
        assert pixels.shape == (6 * zoom, 6 * zoom, 3)
        small = pixels[::zoom, ::zoom]
        np.testing.assert_array_equal(pixels, np.kron(small, np.ones((zoom, zoom, 1), np.uint8)))
        if item.source != CATCH:
            assert small.tobytes() in originals[item.source]


def test_names_times_and_order_leak_nothing(tmp_path, sources):
    study = freeze(tmp_path / "study", SMALL, sources["real"], {"gan": sources["gan"]})
    names = [item.name for item in study.manifest.stimuli]
    assert names == sorted(names)
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert {study.path_of(name).stat().st_mtime for name in names} == {0.0}


def test_catch_images_are_real_ones_with_shuffled_pixels(tmp_path, sources):
    study = freeze(tmp_path / "study", SMALL, sources["real"], {"gan": sources["gan"]})
    catches = [item for item in study.manifest.stimuli if item.source == CATCH]
    assert len(catches) == 2
    reals = make_images(30, seed=1)
    colors = {tuple(sorted(map(bytes, image.reshape(-1, 3)))) for image in reals}
    for item in catches:
        with Image.open(study.path_of(item.name)) as image:
            small = np.asarray(image)[:: study.manifest.zoom, :: study.manifest.zoom]
        assert tuple(sorted(map(bytes, small.reshape(-1, 3)))) in colors
        assert small.tobytes() not in as_set(reals)


def test_no_image_serves_two_purposes(tmp_path, sources):
    study = freeze(tmp_path / "study", SMALL, sources["real"], {"gan": sources["gan"]})
    assert len({item.sha256 for item in study.manifest.stimuli}) == len(study.manifest.stimuli)


def test_sizes_must_agree_or_be_cropped_openly(tmp_path, sources):
    fakes = {"large": sources["large"]}
    with pytest.raises(LapganError, match=r"real 6x6, large 8x8.*crop = 6"):
        freeze(tmp_path / "study", SMALL, sources["real"], fakes)
    assert not (tmp_path / "study").exists()
    design = SMALL.model_copy(update={"crop": 6})
    study = freeze(tmp_path / "study", design, sources["real"], fakes)
    assert study.manifest.crop == 6
    centers = as_set(make_images(30, size=8, seed=3)[:, 1:7, 1:7])
    item = next(item for item in study.manifest.stimuli if item.source == "large")
    with Image.open(study.path_of(item.name)) as image:
        small = np.asarray(image)[:: study.manifest.zoom, :: study.manifest.zoom]
    assert small.tobytes() in centers
    with pytest.raises(LapganError, match="crop: 7, but 'real' is 6x6"):
        freeze(tmp_path / "other", SMALL.model_copy(update={"crop": 7}), sources["real"], fakes)


def test_a_frozen_study_is_checked_and_never_overwritten(tmp_path, sources):
    folder = tmp_path / "study"
    study = freeze(folder, SMALL, sources["real"], {"gan": sources["gan"]})
    assert load_study(folder) == study
    with pytest.raises(LapganError, match="exists already"):
        freeze(folder, SMALL, sources["real"], {"gan": sources["gan"]})
    path = study.path_of(study.manifest.stimuli[0].name)
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(LapganError, match="differs from the manifest"):
        load_study(folder)
    path.unlink()
    with pytest.raises(LapganError, match="cannot be read"):
        load_study(folder)


def test_a_study_of_another_format_is_refused(tmp_path, sources):
    folder = tmp_path / "study"
    freeze(folder, SMALL, sources["real"], {"gan": sources["gan"]})
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(LapganError, match="format 99, expected 1"):
        load_study(folder)
    path.write_text("[]")
    with pytest.raises(LapganError, match="not a study's manifest"):
        load_study(folder)
    with pytest.raises(LapganError, match="lapgan study new"):
        load_study(tmp_path / "nothing")


def test_pools_hold_what_the_design_needs(tmp_path, sources):
    study = freeze(tmp_path / "study", SMALL, sources["real"], {"gan": sources["gan"]})
    counts = {
        (phase, source): len(names)
        for phase, pool in study.pools().items()
        for source, names in pool.items()
    }
    assert counts == {
        ("practice", REAL): 1,
        ("practice", "gan"): 1,
        ("main", REAL): 8,
        ("main", "gan"): 8,
        ("catch", CATCH): 2,
    }
    assert len(study.examples()) == 2


def test_png_bytes_round_trip():
    image = make_images(1)[0]
    with Image.open(io.BytesIO(png_bytes(image))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


@pytest.mark.data
def test_cifar10_parquet(cifar10):
    assert draw_images(str(cifar10), 3, [0], "test").shape == (3, 32, 32, 3)
