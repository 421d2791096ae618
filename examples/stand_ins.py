"""Writes STL-10's binaries and an LSUN database from any pictures: stand-ins to try recipes on.

    python examples/stand_ins.py scenes96 --out stand-ins

makes `stand-ins/stl10_binary` (train, test, unlabeled, class names, folds) and
`stand-ins/lsun/CLASS_{train,val}_lmdb`, one class per class of the pictures. The readers of `stl10`
and `lsun` cannot tell them from the official files, except by their number and content:

    LAPGAN_DATA=stand-ins lapgan train paper-stl10 --out runs/stl10
    LAPGAN_DATA=stand-ins lapgan train paper-lsun --data lsun:all:64 --out runs/lsun
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from lapgan.data import Images, open_images
from lapgan.errors import LapganError
from lapgan.files import atomic_folder

Pixels = NDArray[np.uint8]  # (N, 3, 96, 96)
SIDE = 96


def write_stl10(folder: Path, train: Images, test: Images) -> None:
    """Writes the official files: planes column by column, labels from 1, ten folds.

    Args:
        folder: the new folder `stl10_binary`.
        train: pictures of 96x96; half of them become `train`, and all of them `unlabeled`.
        test: pictures of 96x96.
    """
    half = max(10, len(train) // 2)
    for split, images, count in (("train", train, half), ("test", test, len(test))):
        (folder / f"{split}_X.bin").write_bytes(encode_planes(images.pixels[:count]))
        labels = np.zeros(count) if images.labels is None else images.labels[:count]
        (folder / f"{split}_y.bin").write_bytes((labels % 10 + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(encode_planes(train.pixels))
    (folder / "class_names.txt").write_text("\n".join(class_names(train)) + "\n")
    folds = np.array_split(np.random.default_rng(0).permutation(half), 10)
    lines = [" ".join(map(str, fold)) for fold in folds]
    (folder / "fold_indices.txt").write_text("\n".join(lines) + "\n")


def encode_planes(pixels: Pixels) -> bytes:
    """Returns pictures (N, 3, 96, 96) with each plane written column by column."""
    return np.ascontiguousarray(pixels.transpose(0, 1, 3, 2)).tobytes()


def class_names(images: Images) -> list[str]:
    """Returns ten names, those of the images first."""
    return [*images.class_names, *map(str, range(10))][:10]


def write_lsun(folder: Path, train: Images, val: Images) -> None:
    """Writes one database per class and split, as the official ones: 40 digits -> a WebP file."""
    for split, images in (("train", train), ("val", val)):
        for index, name in enumerate(images.class_names or ("pictures",)):
            chosen = (
                range(len(images)) if images.labels is None
                else np.flatnonzero(images.labels == index)
            )  # fmt: skip
            write_database(folder / f"{name}_{split}_lmdb", encode_webp(images, list(chosen)))


def encode_webp(images: Images, chosen: Sequence[int]) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and WebP files."""
    for index in chosen:
        file = io.BytesIO()
        Image.fromarray(images.pixels[index].transpose(1, 2, 0)).save(file, "WEBP", quality=95)
        # The official keys are hashes, so their order is a random one.
        key = np.random.default_rng((1, index)).bytes(20).hex()
        yield key.encode(), file.getvalue()


def write_database(folder: Path, pairs: Iterator[tuple[bytes, bytes]]) -> None:
    """Writes one LMDB database."""
    import lmdb

    folder.mkdir(parents=True)
    with (
        lmdb.open(str(folder), map_size=2**40, writemap=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in pairs:
            transaction.put(key, value)


def main(
    data: Annotated[str, typer.Argument(help="Pictures of 96x96, splits train and test.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
) -> None:
    """Write STL-10 binaries and an LSUN database from pictures of 96x96."""
    train, test = (open_images(data, split=split) for split in ("train", "test"))
    if train.size != (SIDE, SIDE):
        raise LapganError(f"{data}: expected 96x96; use `lapgan prepare --size 96` first.")
    with atomic_folder(out) as folder:
        (folder / "stl10_binary").mkdir()
        write_stl10(folder / "stl10_binary", train, test)
        write_lsun(folder / "lsun", train, test)
    print(f"wrote {len(train):,} and {len(test):,} pictures to {out}")


if __name__ == "__main__":
    typer.run(main)
