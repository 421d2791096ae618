"""The images of a study: drawn from their sources, frozen as PNG, listed in a manifest.

Real and fake images take one path: 8-bit RGB array, center crop if the design says so, whole
number nearest-neighbour zoom, PNG. File names are random and say nothing about an image.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module, resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from lapgan.errors import LapganError
from lapgan.files import resolve_data_path, write_atomically
from lapgan.run_folder import is_model_path
from lapgan.study.design import CATCH, REAL, Design, Phase, Pools, pool_sizes

__all__ = [
    "Manifest",
    "Stimulus",
    "Study",
    "draw_images",
    "freeze",
    "load_study",
    "png_bytes",
]

Pixels = npt.NDArray[np.uint8]

MANIFEST = "manifest.json"
CONSENT = "consent.txt"
STIMULI = "stimuli"
FORMAT = 1
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
_SHOWN_PIXELS = 256


class Stimulus(BaseModel):
    """One frozen image. `phase` is `examples` for the real images of the instructions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    phase: str
    sha256: str


class Manifest(BaseModel):
    """What a study is: its design, where its images come from, and each image's hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    lapgan: str
    created: str
    design: Design
    sources: dict[str, str]
    image_size: tuple[int, int]
    crop: int | None
    zoom: int
    stimuli: tuple[Stimulus, ...]

    @property
    def fakes(self) -> tuple[str, ...]:
        """Names of the fake sources, in the order they were given."""
        return tuple(source for source in self.sources if source != REAL)


@dataclass(frozen=True)
class Study:
    """A frozen study on disk."""

    folder: Path
    manifest: Manifest
    fingerprint: str

    @property
    def design(self) -> Design:
        """The study's design."""
        return self.manifest.design

    @property
    def consent(self) -> str:
        """The consent text, which may be edited until the first rater has agreed to it."""
        return (self.folder / CONSENT).read_text(encoding="utf-8")

    def pools(self) -> Pools:
        """Names of the stimuli by phase and source."""
        phases: tuple[Phase, ...] = ("practice", "main", "catch")
        return {
            phase: _group([item for item in self.manifest.stimuli if item.phase == phase])
            for phase in phases
        }

    def examples(self) -> list[str]:
        """Names of the real images on the instruction page."""
        return [item.name for item in self.manifest.stimuli if item.phase == "examples"]

    def path_of(self, name: str) -> Path:
        """The file of a stimulus."""
        return self.folder / STIMULI / f"{name}.png"


def freeze(
    folder: Path,
    design: Design,
    real: str,
    fakes: Mapping[str, str],
    split: str = "test",
) -> Study:
    """Draws the images of a study and freezes them in a new folder.

    Args:
        folder: the study's folder; it must not exist yet.
        design: the study's design.
        real: source of the real images (see `draw_images`).
        fakes: sources of the fake images by name.
        split: which part of a named data set or of `real` to draw from.

    Raises:
        LapganError: the folder exists, a source cannot be read or has too few images, or the
            sources' sizes differ and no `crop` is set.
    """
    if folder.exists():
        raise LapganError(
            f"{folder}: exists already, and a frozen study is never changed. Name a new one."
        )
    sizes = pool_sizes(design, list(fakes))
    drawn: dict[tuple[str, str], Pixels] = {}
    for place, (name, spec) in enumerate({REAL: real, **fakes}.items()):
        counts = _counts_of(name, design, sizes)
        images = draw_images(spec, sum(counts.values()), [design.seed, place, 2], split)
        parts = np.split(images, np.cumsum(list(counts.values()))[:-1])
        drawn |= {(name, phase): part for phase, part in zip(counts, parts, strict=True)}
    if (REAL, CATCH) in drawn:
        drawn[CATCH, CATCH] = _shuffle_pixels(drawn.pop((REAL, CATCH)), design.seed)
    cropped = {key: _center_crop(images, design.crop, key[0]) for key, images in drawn.items()}
    _check_sizes(cropped)
    return _write_study(folder, design, {REAL: real, **fakes}, cropped)


def load_study(folder: Path) -> Study:
    """Opens a frozen study and checks every image against the manifest.

    Raises:
        LapganError: no study, one of another format, or an image that is missing or changed.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = Manifest.model_validate(json.loads(content))
    except OSError as error:
        raise LapganError(
            f"{path}: cannot be read ({error.strerror}). Make a study with `lapgan study new`."
        ) from error
    except (ValidationError, ValueError) as error:
        raise LapganError(f"{path}: is not a study's manifest ({error}).") from error
    if manifest.format != FORMAT:
        raise LapganError(
            f"{path}: format {manifest.format}, expected {FORMAT}. Use the lapgan release "
            f"{manifest.lapgan} that made this study."
        )
    study = Study(folder, manifest, hashlib.sha256(content).hexdigest())
    for item in manifest.stimuli:
        _check_stimulus(study.path_of(item.name), item)
    return study


def draw_images(spec: str, count: int, seed: Sequence[int], split: str) -> Pixels:
    """Draws images without replacement from any kind of source.

    Args:
        spec: a folder of images, an `.npz` file with `images` (N, H, W, 3) uint8, a parquet file
            with a column `img` or `image`, a lapgan run folder or `.safetensors` file (sampled by
            the package's own command), or the name of one of the package's data sources.
        count: how many.
        seed: of the draw.
        split: of a named data source.

    Returns:
        (count, H, W, 3) uint8.

    Raises:
        LapganError: the source is missing, unreadable, or has fewer than `count` images.
    """
    path = resolve_data_path(spec)
    rng = np.random.default_rng(seed)
    if spec.startswith("hub:"):
        return _draw_named(spec, count, rng, split)
    if path.is_dir() and not is_model_path(path) and _image_files(path):
        return _draw_folder(path, count, rng)
    if path.suffix == ".npz" and path.is_file():
        return _draw_npz(path, count, rng)
    if path.suffix == ".parquet" and path.is_file():
        return _draw_parquet(path, count, rng)
    if is_model_path(path):
        return _sample_run(path, count, int(rng.integers(2**31)))
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise LapganError(f"{spec}: no such file or folder. Give a source that exists.")
    return _draw_named(spec, count, rng, split)


def png_bytes(image: Pixels) -> bytes:
    """An (H, W, 3) uint8 image as the bytes of a PNG file without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _group(items: Sequence[Stimulus]) -> dict[str, list[str]]:
    sources = dict.fromkeys(item.source for item in items)
    return {source: [item.name for item in items if item.source == source] for source in sources}


def _counts_of(
    name: str, design: Design, sizes: Mapping[Phase, Mapping[str, int]]
) -> dict[str, int]:
    counts: dict[str, int] = {phase: sizes[phase].get(name, 0) for phase in ("practice", "main")}
    if name == REAL:
        counts |= {"examples": design.examples, CATCH: sizes["catch"].get(CATCH, 0)}
    return {phase: count for phase, count in counts.items() if count}


def _pick(available: int, count: int, where: object, rng: np.random.Generator) -> list[int]:
    if available < count:
        raise LapganError(
            f"{where}: {available} images, expected at least {count}. Give a larger source, or "
            "lower images_per_source."
        )
    return [int(index) for index in rng.permutation(available)[:count]]


def _read_rgb(content: Path | io.BytesIO, where: object) -> Pixels:
    try:
        with Image.open(content) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise LapganError(f"{where}: is not an image that can be read ({error}).") from error


def _stack(images: Sequence[Pixels], where: object) -> Pixels:
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        found = ", ".join(sorted(f"{height}x{width}" for height, width, _ in shapes)[:4])
        raise LapganError(f"{where}: images of one size expected, found {found}. Resize them.")
    return np.stack(images)


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)


def _draw_folder(path: Path, count: int, rng: np.random.Generator) -> Pixels:
    files = _image_files(path)
    picked = [files[index] for index in _pick(len(files), count, path, rng)]
    return _stack([_read_rgb(file, file) for file in picked], path)


def _draw_npz(path: Path, count: int, rng: np.random.Generator) -> Pixels:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = archive["images"]
    except (OSError, ValueError, KeyError) as error:
        raise LapganError(
            f"{path}: expected an npz file with an array `images` ({error}). "
            "`lapgan sample RUN --out FILE.npz` writes one."
        ) from error
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise LapganError(
            f"{path}: images: expected uint8 of shape (N, H, W, 3), got {images.dtype} of shape "
            f"{images.shape}. Convert them."
        )
    return np.asarray(images[_pick(len(images), count, path, rng)])


def _draw_parquet(path: Path, count: int, rng: np.random.Generator) -> Pixels:
    try:
        dataset = import_module("pyarrow.dataset").dataset(path)
    except ModuleNotFoundError as error:
        raise LapganError(f"{path}: parquet needs pyarrow. Run `pip install pyarrow`.") from error
    except (OSError, ValueError) as error:
        raise LapganError(f"{path}: is not a parquet file that can be read ({error}).") from error
    column = next((name for name in ("img", "image") if name in dataset.schema.names), None)
    if column is None:
        raise LapganError(
            f"{path}: expected a column `img` or `image`, found {dataset.schema.names}."
        )
    indices = _pick(dataset.count_rows(), count, path, rng)
    cells = dataset.take(indices, columns=[column]).column(column).to_pylist()
    return _stack([_read_rgb(io.BytesIO(cell["bytes"]), path) for cell in cells], path)


def _sample_run(path: Path, count: int, seed: int) -> Pixels:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "samples.npz"
        command = [sys.executable, "-m", "lapgan", "sample", str(path)]
        command += ["--n", str(count), "--seed", str(seed), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not out.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise LapganError(
                f"{path}: `lapgan sample` failed ({last[0]}). Give a trained run, an npz file or "
                "a folder of images."
            )
        return _draw_npz(out, count, np.random.default_rng(seed))


def _draw_named(name: str, count: int, rng: np.random.Generator, split: str) -> Pixels:
    try:
        # By name: the data layer is optional here, and the study must load without it.
        source = import_module("lapgan.data").open_images(name, split=split)
    except ModuleNotFoundError as error:
        raise LapganError(
            f"{name}: no such file or folder, and data sources cannot be opened ({error}). Give a "
            "folder of images, an npz file or a parquet file."
        ) from error
    indices = _pick(len(source.pixels), count, name, rng)
    planes = np.stack([np.asarray(source.pixels[index]) for index in indices])
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _shuffle_pixels(images: Pixels, seed: int) -> Pixels:
    rng = np.random.default_rng([seed, 3])
    flat = images.reshape(len(images), -1, 3)
    return np.stack([rng.permutation(image) for image in flat]).reshape(images.shape)


def _center_crop(images: Pixels, crop: int | None, where: str) -> Pixels:
    height, width = images.shape[1:3]
    if crop is None:
        return images
    if min(height, width) < crop:
        raise LapganError(f"crop: {crop}, but {where!r} is {height}x{width}. Lower crop.")
    top, left = (height - crop) // 2, (width - crop) // 2
    return images[:, top : top + crop, left : left + crop]


def _check_sizes(drawn: Mapping[tuple[str, str], Pixels]) -> None:
    sizes = {source: images.shape[1:3] for (source, _), images in drawn.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        smallest = min(min(size) for size in sizes.values())
        raise LapganError(
            f"sources: images of one size expected, found {found}. Set crop = {smallest} in the "
            "study's TOML (or --crop) to cut all to their center; the manifest will say so."
        )


def _write_study(
    folder: Path,
    design: Design,
    sources: Mapping[str, str],
    drawn: Mapping[tuple[str, str], Pixels],
) -> Study:
    height, width = next(iter(drawn.values())).shape[1:3]
    zoom = design.zoom or max(1, _SHOWN_PIXELS // max(height, width))
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (scratch / STIMULI).mkdir()
        stimuli = [
            _write_stimulus(scratch / STIMULI, image, source, phase, zoom)
            for (source, phase), images in drawn.items()
            for image in images
        ]
        manifest = Manifest(
            format=FORMAT,
            lapgan=_package_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            design=design,
            sources=dict(sources),
            image_size=(height, width),
            crop=design.crop,
            zoom=zoom,
            stimuli=tuple(sorted(stimuli, key=lambda item: item.name)),
        )
        write_atomically(scratch / MANIFEST, manifest.model_dump_json(indent=1).encode())
        template = resources.files("lapgan.study") / "templates" / CONSENT
        write_atomically(scratch / CONSENT, template.read_bytes())
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_study(folder)


def _write_stimulus(folder: Path, image: Pixels, source: str, phase: str, zoom: int) -> Stimulus:
    content = png_bytes(image.repeat(zoom, axis=0).repeat(zoom, axis=1))
    name = secrets.token_hex(16)
    path = folder / f"{name}.png"
    path.write_bytes(content)
    os.utime(path, (0, 0))  # the order of writing would tell the sources apart
    digest = hashlib.sha256(content).hexdigest()
    return Stimulus(name=name, source=source, phase=phase, sha256=digest)


def _check_stimulus(path: Path, item: Stimulus) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LapganError(f"{path}: cannot be read ({error.strerror}). Restore it.") from error
    if found != item.sha256:
        raise LapganError(
            f"{path}: differs from the manifest (sha256 {found[:12]}..., expected "
            f"{item.sha256[:12]}...). Restore the file; a frozen study is never changed."
        )


def _package_version() -> str:
    try:
        return version("lapgan")
    except PackageNotFoundError:
        return "unknown"
