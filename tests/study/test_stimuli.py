import io
import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import as_set, make_images, write_npz

from lapgan.errors import LapganError
from lapgan.study.design import CATCH, REAL, Design
from lapgan.study.stimuli import encode_png, freeze, load_study, pad_png

SMALL = Design(
    trials=8, blocks=1, practice_trials=2, catch_trials=1, examples=2, images_per_source=8
)


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
    with Image.open(io.BytesIO(encode_png(image))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


def test_a_study_of_before_has_no_salt_and_keeps_its_rules(tmp_path, sources):
    folder = tmp_path / "study"
    study = freeze(folder, SMALL, sources["real"], {"gan": sources["gan"]})
    assert study.design.exclusion.rushed_share == 0.1
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["salt"], manifest["design"]["exclusion"]["rushed_share"]
    path.write_text(json.dumps(manifest))
    before = load_study(folder)
    assert before.manifest.salt == ""
    assert before.design.exclusion.rushed_share == 1.0


def test_the_consent_fits_the_mode(tmp_path, sources):
    untimed = SMALL.model_copy(update={"mode": "untimed"})
    for name, design in (("timed", SMALL), ("untimed", untimed)):
        study = freeze(tmp_path / name, design, sources["real"], {"gan": sources["gan"]})
        assert ("covered by a gray square" in study.consent) == (name == "timed")
        assert ("until you have answered" in study.consent) == (name == "untimed")
        assert "{" not in study.consent


def test_the_size_of_a_file_tells_nothing(tmp_path):
    # Smooth real images and noise as fakes: their own files differ by a factor of ten.
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    smooth = (
        np.broadcast_to(ramp[:, None, None], (60, 32, 32, 3))
        - np.arange(60, dtype=np.uint8)[:, None, None, None]
    )
    sources = {"real": write_npz(tmp_path / "real.npz", smooth)}
    noise = make_images(60, 32, 3)
    sources["gan"] = write_npz(tmp_path / "gan.npz", noise)
    keys = {"trials": 8, "blocks": 1, "images_per_source": 16, "catch_trials": 2, "zoom": 2}
    design = Design.model_validate(keys)
    study = freeze(tmp_path / "study", design, sources["real"], {"gan": sources["gan"]})
    sizes, originals = set(), {image.tobytes() for image in (*smooth, *noise)}
    for item in study.manifest.stimuli:
        content = study.path_of(item.name).read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.verify()
        with Image.open(io.BytesIO(content)) as opened:
            pixels = np.array(opened)[::2, ::2]
        if item.phase != "catch":
            assert pixels.tobytes() in originals
            sizes.add(len(content))
    assert len(sizes) == 1


@given(spare=st.integers(48, 3000), seed=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_padded_png_has_the_wanted_size_and_the_same_image(spare, seed):
    image = make_images(1, 9, seed)[0]
    content = encode_png(image)
    padded = pad_png(content, len(content) + spare)
    assert len(padded) == len(content) + spare
    with Image.open(io.BytesIO(padded)) as opened:
        assert (np.array(opened) == image).all()
    names, place = [], 8
    while place < len(padded):
        length = int.from_bytes(padded[place : place + 4], "big")
        names.append(padded[place + 4 : place + 8])
        assert zlib.crc32(padded[place + 4 : place + 8 + length]) == int.from_bytes(
            padded[place + 8 + length : place + 12 + length], "big"
        )
        place += 12 + length
    assert set(names) == {b"IHDR", b"IDAT", b"IEND"}
