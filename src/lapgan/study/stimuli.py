"""The images of a study: drawn from their sources, frozen as PNG files, listed in a manifest.

Real and fake images are processed alike: 8-bit RGB array, center crop if the design has one,
nearest-neighbor zoom by a whole number, PNG. File names are random and reveal nothing.
"""

import hashlib
import io
import json
import os
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field, ValidationError

from lapgan.errors import LapganError
from lapgan.files import atomic_folder, write_atomically
from lapgan.section import Section
from lapgan.sizes import Size, size_text
from lapgan.study.design import CATCH, REAL, Design, Phase, Pools
from lapgan.study.drawing import Pixels, draw_images
from lapgan.study.planning import pool_sizes
from lapgan.study.texts import Texts, read_texts

__all__ = [
    "Manifest",
    "Stimulus",
    "Study",
    "encode_png",
    "freeze",
    "load_study",
    "pad_png",
]

MANIFEST = "manifest.json"
CONSENT = "consent.txt"
TEXTS = "texts.toml"
STIMULI = "stimuli"
FORMAT = 1
_SHOWN_PIXELS = 256


class Stimulus(Section):
    """One frozen image. `phase` is `examples` for the real images of the instructions."""

    name: str
    source: str
    phase: str
    sha256: str


class Manifest(Section):
    """The definition of a study: its design, the sources of its images, and each image's hash.

    `salt` is the secret part of the seed of every rater's order. It is written to no report and
    leaves the server with no response. Studies that were frozen without one have an empty salt.
    """

    format: int
    lapgan: str
    created: str
    design: Design
    sources: dict[str, str]
    image_size: Size
    crop: int | None
    zoom: int
    stimuli: tuple[Stimulus, ...]
    salt: str = Field(default="", pattern=r"^[0-9a-f]*$")

    @property
    def fakes(self) -> tuple[str, ...]:
        """Names of the fake sources, in the order of the command line."""
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
        """The consent text, which may be edited until the first rater agrees to it."""
        return (self.folder / CONSENT).read_text(encoding="utf-8")

    def texts(self) -> Texts:
        """Reads what raters see: the study's own file of texts, or the package's.

        Raises:
            LapganError: a text is missing or wrong.
        """
        own = self.folder / TEXTS
        return read_texts(str(own) if own.exists() else self.design.language)

    def pools(self) -> Pools:
        """Returns the names of the stimuli by phase and source."""
        phases: tuple[Phase, ...] = ("practice", "main", "catch")
        return {
            phase: _group_by_source([item for item in self.manifest.stimuli if item.phase == phase])
            for phase in phases
        }

    def examples(self) -> list[str]:
        """Returns the names of the real images on the instruction page."""
        return [item.name for item in self.manifest.stimuli if item.phase == "examples"]

    def path_of(self, name: str) -> Path:
        """Returns the file of a stimulus."""
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
        split: the split to draw from, where a source has several.

    Raises:
        LapganError: the folder exists, a source cannot be read or has too few images, the
            sources' sizes differ and no `crop` is set, or the language's texts are wrong.
    """
    if folder.exists():
        raise LapganError(
            f"{folder}: exists already, and a frozen study is never changed. Choose a new folder."
        )
    texts = read_texts(design.language)
    if "title" not in design.model_fields_set:
        design = design.model_copy(update={"title": texts.plain("words.title")})
    sources = {REAL: real, **fakes}
    images = _draw_pools(design, sources, split)
    cropped = {key: _center_crop(part, design.crop, key[0]) for key, part in images.items()}
    _check_sizes(cropped)
    with atomic_folder(folder) as scratch:
        _write_study(scratch, design, sources, cropped)
        _write_texts(scratch, design, texts)
    return load_study(folder)


def load_study(folder: Path) -> Study:
    """Opens a frozen study and checks every image against the manifest.

    Raises:
        LapganError: there is no study, it has another format, or an image is missing or changed.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest = Manifest.model_validate(_keep_old_rules(json.loads(content)))
    except OSError as error:
        raise LapganError(
            f"{path}: cannot be read ({error.strerror}). Create a study with `lapgan study new`."
        ) from error
    except (ValidationError, ValueError) as error:
        raise LapganError(
            f"{path}: not a study's manifest ({error}). Restore the file; it is never edited."
        ) from error
    if manifest.format != FORMAT:
        raise LapganError(
            f"{path}: format {manifest.format}, expected {FORMAT}. Use lapgan {manifest.lapgan}, "
            "which created this study."
        )
    study = Study(folder, manifest, hashlib.sha256(content).hexdigest())
    for item in manifest.stimuli:
        _check_stimulus(study.path_of(item.name), item)
    return study


def encode_png(image: Pixels) -> bytes:
    """Returns an (H, W, 3) uint8 image as the bytes of a PNG file without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def pad_png(content: bytes, size: int) -> bytes:
    """Returns the same image in a PNG file of `size` bytes, so that sizes tell nothing.

    Empty blocks of five bytes begin the compressed data, and empty IDAT chunks of twelve follow:
    every size from 48 bytes above the file's own can be reached. There is no other chunk.
    """
    spare = size - len(content)
    chunks = 3 * spare % 5  # what is left can be divided by five
    blocks = (spare - 12 * chunks) // 5
    start = content.index(b"IDAT") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    data = content[start + 8 : end - 4]
    padded = data[:2] + blocks * b"\x00\x00\x00\xff\xff" + data[2:]
    return content[:start] + _make_chunk(padded) + chunks * _make_chunk(b"") + content[end:]


def _make_chunk(data: bytes) -> bytes:
    body = b"IDAT" + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _group_by_source(items: Sequence[Stimulus]) -> dict[str, list[str]]:
    sources = dict.fromkeys(item.source for item in items)
    return {source: [item.name for item in items if item.source == source] for source in sources}


def _counts_of(
    name: str, design: Design, sizes: Mapping[Phase, Mapping[str, int]]
) -> dict[str, int]:
    counts: dict[str, int] = {phase: sizes[phase].get(name, 0) for phase in ("practice", "main")}
    if name == REAL:
        counts |= {"examples": design.examples, CATCH: sizes["catch"].get(CATCH, 0)}
    return {phase: count for phase, count in counts.items() if count}


def _draw_pools(
    design: Design, sources: Mapping[str, str], split: str
) -> dict[tuple[str, str], Pixels]:
    """Draws the images of each (source, phase); none serves two purposes."""
    sizes = pool_sizes(design, [name for name in sources if name != REAL])
    pools: dict[tuple[str, str], Pixels] = {}
    for place, (name, source) in enumerate(sources.items()):
        counts = _counts_of(name, design, sizes)
        images = draw_images(source, sum(counts.values()), [design.seed, place, 2], split)
        parts = np.split(images, np.cumsum(list(counts.values()))[:-1])
        pools |= {(name, phase): part for phase, part in zip(counts, parts, strict=True)}
    if (REAL, CATCH) in pools:
        pools[CATCH, CATCH] = _shuffle_pixels(pools.pop((REAL, CATCH)), design.seed)
    return pools


def _shuffle_pixels(images: Pixels, seed: int) -> Pixels:
    rng = np.random.default_rng([seed, 3])
    flat = images.reshape(len(images), -1, 3)
    return np.stack([rng.permutation(image) for image in flat]).reshape(images.shape)


def _center_crop(images: Pixels, crop: int | None, source: str) -> Pixels:
    height, width = images.shape[1:3]
    if crop is None:
        return images
    if min(height, width) < crop:
        size = size_text((height, width))
        raise LapganError(f"crop: {crop}, but {source!r} is {size}. Lower crop.")
    top, left = (height - crop) // 2, (width - crop) // 2
    return images[:, top : top + crop, left : left + crop]


def _check_sizes(images: Mapping[tuple[str, str], Pixels]) -> None:
    sizes = {source: (part.shape[1], part.shape[2]) for (source, _), part in images.items()}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items())
        smallest = min(min(size) for size in sizes.values())
        raise LapganError(
            f"sources: expected images of one size, found {listing}. Set crop = {smallest} in "
            "study.toml (or --crop) to crop all of them to their center; the manifest records it."
        )


def _write_study(
    folder: Path,
    design: Design,
    sources: Mapping[str, str],
    images: Mapping[tuple[str, str], Pixels],
) -> None:
    height, width = next(iter(images.values())).shape[1:3]
    zoom = design.zoom or max(1, _SHOWN_PIXELS // max(height, width))
    (folder / STIMULI).mkdir()
    stimuli = _write_stimuli(folder / STIMULI, images, zoom)
    manifest = Manifest(
        format=FORMAT,
        lapgan=_find_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        design=design,
        sources=dict(sources),
        image_size=(height, width),
        crop=design.crop,
        zoom=zoom,
        stimuli=tuple(sorted(stimuli, key=lambda item: item.name)),
        salt=secrets.token_hex(16),
    )
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    (folder / MANIFEST).chmod(0o600)  # it is the key to the answers


def _write_texts(folder: Path, design: Design, texts: Texts) -> None:
    write_atomically(folder / CONSENT, _write_consent(design, texts).encode())
    if design.language.endswith(".toml"):
        write_atomically(folder / TEXTS, Path(design.language).read_bytes())


def _write_consent(design: Design, texts: Texts) -> str:
    """Returns the consent text of a design, to be edited before the first rater joins."""
    times = design.durations_ms if design.mode == "durations" else (design.staircase.start_ms,)
    shown_ms = 0.0 if design.mode == "untimed" else float(np.mean(times))
    total = design.practice_trials + design.trials + design.catch_trials
    # Two seconds to decide, and some minutes for the instructions and the breaks.
    minutes = max(2, round(total * (design.fixation_ms + shown_ms + 2000) / 60_000 + 2))
    timed = design.mode != "untimed"
    names = ", ".join(design.recruiting.parameters)
    identity = texts.plain("consent.recruited", parameters=names)
    return texts.plain(
        "consent.text",
        exposure=texts.plain("consent.timed" if timed else "consent.untimed"),
        minutes=minutes,
        flicker=texts.plain(f"consent.follow_{design.mask}" if timed else "consent.follow"),
        identity=identity if names else texts.plain("consent.anonymous"),
    )


def _write_stimuli(
    folder: Path, images: Mapping[tuple[str, str], Pixels], zoom: int
) -> list[Stimulus]:
    """Writes all images; those of all sources and phases but `catch` as files of one size."""
    encoded = [
        (source, phase, encode_png(image.repeat(zoom, axis=0).repeat(zoom, axis=1)))
        for (source, phase), part in images.items()
        for image in part
    ]
    sizes = {
        group: max((len(png) for _, phase, png in encoded if (phase == CATCH) == group), default=0)
        for group in (False, True)
    }
    sizes[True] = max(sizes.values())
    return [
        _write_stimulus(folder, pad_png(png, sizes[phase == CATCH] + 48), source, phase)
        for source, phase, png in encoded
    ]


def _write_stimulus(folder: Path, content: bytes, source: str, phase: str) -> Stimulus:
    name = secrets.token_hex(16)
    path = folder / f"{name}.png"
    path.write_bytes(content)
    os.utime(path, (0, 0))  # the order of writing would reveal the sources
    digest = hashlib.sha256(content).hexdigest()
    return Stimulus(name=name, source=source, phase=phase, sha256=digest)


def _keep_old_rules(content: Any) -> Any:
    """Switches off rules that were not there when a study was frozen."""
    if isinstance(content, dict) and isinstance(content.get("design"), dict):
        rules = content["design"].get("exclusion")
        if isinstance(rules, dict):
            rules.setdefault("rushed_share", 1.0)
    return content


def _check_stimulus(path: Path, item: Stimulus) -> None:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LapganError(f"{path}: cannot be read ({error.strerror}). Restore it.") from error
    if digest != item.sha256:
        raise LapganError(
            f"{path}: differs from the manifest (sha256 {digest[:12]}..., expected "
            f"{item.sha256[:12]}...). Restore the file; a frozen study is never changed."
        )


def _find_version() -> str:
    try:
        return version("lapgan")
    except PackageNotFoundError:
        return "unknown"
