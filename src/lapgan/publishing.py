"""A model as a folder that can be published: weights, their description, and a card for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lapgan.errors import LapganError, requires
from lapgan.files import atomic_folder, write_json
from lapgan.hub import MODEL_FILE, check_repository
from lapgan.sizes import size_text
from lapgan.weights import FORMAT, Weights, generator_state, write_weights

__all__ = ["Evaluated", "read_evaluation", "render_card", "write_model_folder"]

_TASK = "unconditional-image-generation"
_TAGS = ["gan", "laplacian-pyramid", "lapgan"]


@dataclass(frozen=True)
class Evaluated:
    """What a report of `lapgan evaluate` says of one model.

    Args:
        subject: the model's name in the report.
        data: the name of the training data.
        rows: the model's measurements, then those of the references.
    """

    subject: str
    data: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def own(self) -> list[Mapping[str, Any]]:
        """The model's own measurements that have a finite value."""
        rows = (row for row in self.rows if row["subject"] == self.subject)
        return [row for row in rows if row["value"] is not None]


def read_evaluation(path: Path, subject: str | None = None) -> Evaluated:
    """Reads a `report.json` of `lapgan evaluate`.

    Args:
        path: the file.
        subject: which of its models; may be left out if there is one.

    Raises:
        LapganError: the file is no such report, or has no such model.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        models, data = list(report["settings"]["models"]), report["settings"]["training_data"]
        rows = [_check_row(row) for row in report["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LapganError(
            f"--evaluation {path}: cannot be read ({error!r}); expected the report.json that "
            "`lapgan evaluate` writes."
        ) from None
    if subject is None and len(models) == 1:
        subject = models[0]
    if subject is None or subject not in models:
        raise LapganError(
            f"--evaluation {path}: has the models {', '.join(models)}; say which with --subject."
        )
    kept = [row for row in rows if row["subject"] == subject or row["subject"] not in models]
    return Evaluated(subject, str(data), kept)


def write_model_folder(
    folder: Path,
    weights: Weights,
    name: str,
    evaluated: Evaluated | None = None,
    license: str | None = None,
) -> None:
    """Writes `model.safetensors`, `config.json` and `README.md`, as a whole folder or not at all.

    Args:
        folder: must not exist.
        weights: of every level.
        name: under which it will be published, OWNER/NAME.
        evaluated: fills the card's table.
        license: of the weights, by its identifier on the Hub, such as `mit`.

    Raises:
        LapganError: the folder exists or cannot be written, or a package is missing.
    """
    check_repository(name)
    card = render_card(weights, name, evaluated, license)
    with atomic_folder(folder) as new:
        write_weights(new / MODEL_FILE, weights)
        write_json(new / "config.json", _describe(weights))
        (new / "README.md").write_text(card, encoding="utf-8", newline="\n")


def render_card(
    weights: Weights, name: str, evaluated: Evaluated | None, license: str | None
) -> str:
    """Returns a model card: metadata for the Hub, then what people want to know.

    References:
        Mitchell et al., Model Cards for Model Reporting, 2019, https://arxiv.org/abs/1810.03993.
    """
    with requires("hub", "a model card"):
        from huggingface_hub import EvalResult, ModelCardData
    data = evaluated.data if evaluated else ""
    results = [
        EvalResult(
            task_type=_TASK,
            dataset_type=_slug(data),
            dataset_name=data,
            metric_type=row["metric"],
            metric_name=_metric(row),
            metric_value=row["value"],
        )
        for row in (evaluated.own if evaluated else ())
    ]
    metadata = ModelCardData(
        library_name="lapgan",
        license=license,
        pipeline_tag=_TASK,
        tags=_TAGS,
        model_name=name.partition("/")[2],
        eval_results=results or None,
    )
    parts = [_introduce(weights, name), _tell_levels(weights)]
    if evaluated:
        parts.append(_tell_evaluation(evaluated))
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n".join(parts)


def _describe(weights: Weights) -> dict[str, Any]:
    return {
        "library_name": "lapgan",
        "lapgan_version": version("lapgan"),
        "format": FORMAT,
        "recipe": weights.recipe.model_dump(mode="json"),
        "class_names": weights.class_names,
        "training": weights.training,
    }


def _introduce(weights: Weights, name: str) -> str:
    recipe = weights.recipe
    size = size_text(recipe.sizes[0])
    classes = labels = ""
    if weights.class_names:
        classes = f" of {len(weights.class_names)} classes"
        labels = f", labels=cascade.labels(64, [{weights.class_names[0]!r}])"
    return f"""# {name.partition("/")[2]}

A Laplacian pyramid of adversarial networks (Denton et al., 2015) that draws {size} images{classes}:
{recipe.description or recipe.name}

```python
from lapgan import Cascade

cascade = Cascade.from_pretrained("{name}")
images = cascade.sample(64, seed=0{labels})  # uint8, (64, 3, {size.replace("x", ", ")})
```

In a shell: `lapgan sample hub:{name} --n 64 --out sheet.png`.

`model.safetensors` alone rebuilds the model; nothing in it is code. `config.json` is for reading.
"""


def _tell_levels(weights: Weights) -> str:
    header = ["level", "parameters of G", "images seen", "minutes", "data", "seed", "computed on"]
    rows = []
    for name in weights.recipe.level_names:
        figures = weights.training.get(name, {})
        data = figures.get("data", "")
        count = sum(t.numel() for t in generator_state(name, weights.tensors).values())
        rows.append([
            name,
            f"{count:,}",
            f"{figures.get('images_seen', 0):,}",
            f"{figures.get('seconds', 0) / 60:.1f}",
            str(data["name"] if isinstance(data, Mapping) else data),
            str(figures.get("seed", "")),
            str(figures.get("compute", "")),
        ])  # fmt: skip
    return "## Training\n\n" + "\n".join(_table(header, rows)) + "\n"


def _tell_evaluation(evaluated: Evaluated) -> str:
    header = ["images", "metric", "value", "error", "n", "seed"]
    rows = [
        [
            "**this model**" if row["subject"] == evaluated.subject else row["subject"],
            _metric(row),
            _number(row["value"]) + (f" {row['unit']}" if row["unit"] else ""),
            _number(row["error"]),
            f"{row['n']:,}",
            str(row["seed"]),
        ]
        for row in evaluated.rows
    ]
    return (
        "## Evaluation\n\nBy `lapgan evaluate`, with references beside the model; training data: "
        f"{_escape(evaluated.data)}. The error is a standard error where the report does not say "
        "otherwise.\n\n" + "\n".join(_table(header, rows)) + "\n"
    )


def _check_row(row: Any) -> Mapping[str, Any]:
    """Returns a measurement of a report; a KeyError or TypeError if it is none."""
    names = ("subject", "metric", "value", "error", "n", "seed", "unit", "extractor")
    return {name: row[name] for name in names}


def _metric(row: Mapping[str, Any]) -> str:
    extractor = f" ({row['extractor']})" if row["extractor"] else ""
    return f"{row['metric']}{extractor}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _slug(text: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(filter(None, kept.split("-"))) or "images"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")
