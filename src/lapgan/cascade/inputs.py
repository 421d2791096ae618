"""What sampling starts from: class labels and coarse images, chosen and checked."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.pyramid import size_of
from lapgan.sizes import Size, size_text

__all__ = ["balance_labels", "check_labels", "check_numbers", "check_start"]


def balance_labels(
    n: int, class_names: Sequence[str], classes: Sequence[str | int], model: str
) -> Int64[Tensor, " n"] | None:
    """Returns n labels, as many of each class as of any other, in the order of the classes.

    Args:
        n: how many.
        class_names: of the model; empty without classes.
        classes: names or indices; all if empty.
        model: the model's name, for errors.

    Raises:
        LapganError: the model has no classes, or none of that name.
    """
    if not class_names:
        if classes:
            raise LapganError(
                f"class {classes[0]!r}: this model ({model}) was trained without classes; use one "
                "whose recipe has data.classes = true."
            )
        return None
    indices = [_class_index(name, class_names) for name in classes] or range(len(class_names))
    return torch.tensor(list(indices)).repeat(n // len(indices) + 1)[:n].sort().values


def check_labels(
    n: int, labels: Sequence[int] | Tensor, class_names: Sequence[str], model: str
) -> Int64[Tensor, " n"]:
    """Returns labels as a tensor.

    Raises:
        LapganError: the model has no classes, or the labels are not n indices of them.
    """
    try:
        indices = torch.as_tensor(labels, dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError):
        raise LapganError(
            f"labels: expected {n} indices of classes, found {str(labels)[:60]}; "
            "`Cascade.labels` makes them of names."
        ) from None
    if not class_names:
        raise LapganError(f"labels: this model ({model}) has no classes.")
    if indices.shape != (n,) or (n and not 0 <= indices.min() <= indices.max() < len(class_names)):
        raise LapganError(
            f"labels: expected {n} indices from 0 to {len(class_names) - 1}, found "
            f"{indices.tolist() if indices.numel() <= 10 else tuple(indices.shape)}."
        )
    return indices


def check_numbers(n: int, seed: int) -> None:
    """Raises a LapganError if the number of images or the seed is negative."""
    for name, value in (("n", n), ("seed", seed)):
        if value < 0:
            raise LapganError(f"{name}: expected 0 or more, found {value}.")


def check_start(n: int, start: Tensor, sizes: Sequence[Size], score_size: Size | None) -> None:
    """Raises a LapganError unless coarse images fit the model.

    Args:
        n: how many images there shall be.
        start: the coarse images, (n, 3, h, w).
        sizes: of the levels, finest first.
        score_size: of the images that a classifier chooses among, if it does.
    """
    if not isinstance(start, Tensor) or start.dtype != torch.uint8 or start.dim() != 4:
        found = f"{start.dtype} {tuple(start.shape)}" if isinstance(start, Tensor) else type(start)
        raise LapganError(
            f"start: expected coarse images as a tensor, uint8 (n, 3, h, w), found {found}."
        )
    size = size_of(start)
    if size not in sizes[1:]:
        accepted = ", ".join(map(size_text, sizes[1:])) or "none: it has one level"
        raise LapganError(
            f"the image to refine is {size_text(size)}; this model refines images of {accepted}. "
            "Resize it to one of these first."
        )
    if len(start) != n:
        raise LapganError(f"start: expected {n} coarse images, one per sample, found {len(start)}.")
    if score_size is not None and sizes.index(size) <= sizes.index(score_size):
        raise LapganError(
            f"the image to refine is {size_text(size)}, and the classifier chooses among images "
            f"of {size_text(score_size)}, so there is nothing to choose from. Give a coarser "
            "image, or take the best of 1."
        )


def _class_index(name: str | int, class_names: Sequence[str]) -> int:
    if str(name) in class_names:
        return class_names.index(str(name))
    if str(name).isdecimal() and int(name) < len(class_names):
        return int(name)
    raise LapganError(
        f"class {name!r}: not one of this model's: {', '.join(class_names)} "
        f"(or 0 to {len(class_names) - 1})."
    )
