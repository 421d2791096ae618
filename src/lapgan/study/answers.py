"""The columns of an answer, and the messages between a browser and the server.

`Answer` is the one list of what a browser measures. The table of answers, the export, the
simulated raters and the analysis take their columns from it. A new measurement is a new field
there, sent by study.js; `tables.SCHEMA` is then raised, because old databases lack the column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from lapgan.study.design import REAL

__all__ = [
    "COLUMNS",
    "MEASURED",
    "NEUTRAL",
    "Answer",
    "Column",
    "Completion",
    "Judgement",
    "Kind",
    "Receipt",
    "Row",
    "Screen",
    "Sitting",
    "TrialView",
    "add_truth",
    "is_correct",
    "neutral_row",
    "truth_of",
]

Kind = Literal["text", "boolean", "integer", "number"]
Judgement = Literal["real", "fake"]
# One answered trial: the values of `COLUMNS` by name.
Row = dict[str, Any]

_Duration = Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=100_000_000)]


class Answer(BaseModel):
    """A rater's judgement of one trial, with what the browser measured.

    All times are in milliseconds on the page's clock. Every field after `answer` is a column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    trial: str = Field(min_length=1, max_length=24, pattern=r"^[A-Za-z0-9_-]+$")
    answer: Judgement
    achieved_ms: float = Field(
        gt=0,
        le=86_400_000,
        allow_inf_nan=False,
        description="From onset frame to offset frame in the browser, ms.",
    )
    frames: int = Field(
        ge=1,
        le=100_000_000,
        description="Animation frames during which the image was on the screen.",
    )
    refresh_hz: float = Field(
        ge=1,
        le=2000,
        allow_inf_nan=False,
        description="Refresh rate of the screen, estimated before the block, Hz.",
    )
    dropped_frames: _Count = Field(description="Frames that were missed while the image was shown.")
    hidden: bool = Field(description="True if the page lost visibility during the trial.")
    resumed: bool = Field(description="True if the image had been shown before a reload.")
    response_ms: _Duration = Field(description="From the image's onset to the answer, ms.")
    input: Literal["keyboard", "touch", "mouse"] = Field(description="keyboard, touch or mouse.")

    @property
    def said_real(self) -> bool:
        """Whether the rater judged the image real."""
        return self.answer == "real"

    @property
    def measured(self) -> Row:
        """The values of the columns in `MEASURED`."""
        return self.model_dump(include=set(MEASURED))


class Screen(BaseModel):
    """What the browser says of its window, once, before the first image. A column per field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    window_width: int = Field(
        ge=1, le=100_000, description="Width of the window before the first image, CSS pixels."
    )
    window_height: int = Field(ge=1, le=100_000, description="Height of the window, CSS pixels.")
    pixel_ratio: float = Field(
        gt=0, le=100, allow_inf_nan=False, description="Pixels of the screen per CSS pixel."
    )


class Column(NamedTuple):
    """One column of the answered trials.

    Args:
        kind: type of its values.
        meaning: one sentence for the data dictionary, with the unit.
    """

    kind: Kind
    meaning: str


def _column_of(field: FieldInfo) -> Column:
    kinds: Mapping[Any, Kind] = {bool: "boolean", int: "integer", float: "number"}
    return Column(kinds.get(field.annotation, "text"), field.description or "")


# The columns that the browser measures.
MEASURED: Mapping[str, Column] = {
    name: _column_of(field) for name, field in Answer.model_fields.items() if field.description
}

# All columns of an answered trial, in the order of the export.
COLUMNS: Mapping[str, Column] = {
    "rater": Column("text", "Random code of the rater, `code` in raters.csv."),
    "simulated": Column("boolean", "True if a program answered instead of a person."),
    "trial": Column("text", "Random id of the trial, unique in the study."),
    "position": Column("integer", "Place of the trial in the rater's sitting, from 0."),
    "block": Column("integer", "0 for practice, then 1, 2, ..."),
    "phase": Column("text", "practice (with feedback), main, or catch (obviously fake)."),
    "source": Column("text", "Where the image comes from: real, catch, or a model's name."),
    "staircase": Column("text", "Source whose staircase set the time; empty in other modes."),
    "stimulus": Column("text", "Name of the image; its file is stimuli/NAME.png of the study."),
    "real": Column("boolean", "Whether the image is real."),
    "said_real": Column("boolean", "Whether the rater judged it real."),
    "correct": Column("boolean", "real == said_real."),
    "asked_ms": Column("number", "Requested presentation time, ms; empty when untimed."),
    **MEASURED,
    "real_left": Column("boolean", "Whether the left key meant real for this rater."),
    "answered_at": Column("text", "UTC time at which the server stored the answer, ISO 8601."),
}

# The value of a column that does not matter, by kind.
NEUTRAL: Mapping[Kind, Any] = {"text": "", "boolean": False, "integer": 0, "number": 0.0}


@dataclass(frozen=True)
class TrialView:
    """What a browser may learn about a trial before its answer."""

    trial: str
    image: str
    asked_ms: float | None
    practice: bool


@dataclass(frozen=True)
class Completion:
    """What a rater who has finished gets: a code, and the address of the way back."""

    code: str | None
    url: str | None


@dataclass(frozen=True)
class Sitting:
    """A rater's progress. `images` are those that remain in the present block.

    `completion` is None until every trial is answered.
    """

    code: str
    real_left: bool
    done: int
    total: int
    block: int
    images: tuple[str, ...]
    next: TrialView | None
    paused: bool
    completion: Completion | None = None


@dataclass(frozen=True)
class Receipt:
    """The acknowledgement of an answer that is stored.

    `truth` is sent after practice trials only. `next` is None at the end of a block.
    """

    repeated: bool
    truth: Judgement | None
    done: int
    total: int
    next: TrialView | None
    paused: bool


def truth_of(source: str) -> Judgement:
    """Returns the right answer for an image of this source."""
    return "real" if source == REAL else "fake"


def is_correct(source: str, said_real: bool) -> bool:
    """Returns whether a judgement of an image of this source is right."""
    return (source == REAL) == said_real


def add_truth(row: Mapping[str, Any]) -> Row:
    """Returns a row with the columns `real` and `correct`, from its `source` and `said_real`."""
    source, said_real = row["source"], row["said_real"]
    return {**row, "real": source == REAL, "correct": is_correct(source, said_real)}


def neutral_row() -> Row:
    """Returns a row with every column, each at the neutral value of its kind."""
    return {name: NEUTRAL[column.kind] for name, column in COLUMNS.items()}
