"""The design of a study: the schema of `study.toml`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lapgan.errors import LapganError
from lapgan.section import Section, parse_toml, validate

__all__ = [
    "CATCH",
    "PAPER_DURATIONS_MS",
    "REAL",
    "Design",
    "Exclusion",
    "Phase",
    "Pools",
    "Recruiting",
    "Staircase",
    "read_design",
]

REAL = "real"
CATCH = "catch"

# The paper states eleven durations from 50 to 2000 ms; ten are on its figure's axis.
PAPER_DURATIONS_MS = (50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 650.0, 1000.0, 2000.0)

Phase = Literal["practice", "main", "catch"]
# Names of frozen stimuli by phase and source.
Pools = Mapping[Phase, Mapping[str, Sequence[str]]]

_Milliseconds = Annotated[float, Field(ge=10, le=60_000)]


class Staircase(Section):
    """A transformed up-down staircase on the logarithm of the presentation time.

    After `correct_to_shorten` correct answers in a row the time is divided by `ratio`; after a
    mistake it is multiplied by `ratio`. Three to one converges where 0.5^(1/3) = 79.4% of answers
    are correct.

    Args:
        start_ms: the first time.
        min_ms: the shortest time.
        max_ms: the longest time.
        ratio: factor between two times.
        correct_to_shorten: number of correct answers in a row that shorten the time.

    References:
        Levitt (1971), Transformed up-down methods in psychoacoustics.
    """

    start_ms: _Milliseconds = 500.0
    min_ms: _Milliseconds = 33.0
    max_ms: _Milliseconds = 2000.0
    ratio: float = Field(default=1.4, gt=1.0, le=4.0)
    correct_to_shorten: int = Field(default=3, ge=1, le=6)

    @model_validator(mode="after")
    def _check_order(self) -> "Staircase":
        if not self.min_ms <= self.start_ms <= self.max_ms:
            raise ValueError("expected min_ms <= start_ms <= max_ms")
        return self


class Exclusion(Section):
    """The raters and trials that the analysis leaves out; fixed before the first answer.

    Args:
        one_key_share: leave out raters who gave the same answer in at least this share of the main
            trials.
        fast_ms: an answer sooner than this after the image's onset is too fast to be a judgement.
        fast_share: leave out raters with more than this share of too fast answers.
        rushed_share: leave out raters with more than this share of answers that were stored sooner
            after the one before than cross, image and stated response take.
        failed_catch: leave out raters who called more than this number of catch images real.
        min_answers: leave out raters with fewer main answers (0: unfinished sittings count).
        timing_frames: leave out trials whose image was shown longer or shorter than requested by
            more than this many frames of the rater's screen.
        drop_hidden: leave out trials during which the page was hidden.
        drop_resumed: leave out trials that were begun again after a reload.
    """

    one_key_share: float = Field(default=0.95, gt=0.5, le=1.0)
    fast_ms: float = Field(default=200.0, ge=0, le=5000)
    fast_share: float = Field(default=0.1, ge=0, le=1)
    rushed_share: float = Field(default=0.1, ge=0, le=1)
    failed_catch: int = Field(default=1, ge=0)
    min_answers: int = Field(default=0, ge=0)
    timing_frames: float = Field(default=1.0, gt=0)
    drop_hidden: bool = True
    drop_resumed: bool = True


class Recruiting(Section):
    """The way of raters from a service such as Prolific or MTurk, and back to it.

    Args:
        parameters: names of parameters of the raters' address that are stored, such as
            PROLIFIC_PID; all others are forgotten.
        completion_code: shown to raters who have finished.
        completion_url: where raters who have finished are sent; `{NAME}` stands for the value of a
            parameter.
    """

    parameters: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")], ...] = Field(
        default=(), max_length=10
    )
    completion_code: str | None = Field(default=None, min_length=1, max_length=64)
    completion_url: str | None = Field(default=None, pattern=r"^https?://\S+$", max_length=1000)

    @model_validator(mode="after")
    def _check_names(self) -> "Recruiting":
        names = {name.lower() for name in self.parameters}
        if len(names) < len(self.parameters):
            raise ValueError("parameters: expected different names, found one twice")
        for name in re.findall(r"\{(.*?)\}", self.completion_url or ""):
            if name not in self.parameters:
                raise ValueError(f"completion_url: {{{name}}} is not one of the parameters")
        return self


class Design(Section):
    """Everything that defines a study except its images; the schema of `study.toml`.

    The defaults are the paper's design: an image, shown for a given time, a gray mask, real or
    fake.

    Args:
        title: shown to raters; it should not reveal the hypothesis.
        language: of all other texts: one that the package has, or the path of a TOML file.
        seed: of the draw of the stimuli and of every rater's order.
        mode: `durations` shows images for fixed times, `untimed` until the answer (as in
            HYPE-infinity), `staircase` adapts the time to each rater and source.
        trials: number of main trials per sitting, without practice and catch trials.
        durations_ms: the times of mode `durations`.
        real_share: share of real images; None gives every source, real included, equal weight.
            Modes `untimed` and `staircase` always use one half.
        blocks: number of blocks, with a break between them.
        practice_trials: number of trials with feedback; their images are not shown again.
        catch_trials: number of obviously fake images (shuffled pixels), spread over the blocks.
        examples: number of real images on the instruction page; they are not shown again.
        images_per_source: number of images per source that are frozen for the main trials.
        crop: size in pixels of a center crop of every larger source; None requires equal sizes.
        zoom: whole-number enlargement; None takes the largest that stays within 256 pixels.
        mask: what covers the image until the answer.
        fixation_ms: how long the cross is shown before each image.
        sides: whether "real" is the left or the right key; `balanced` alternates by rater.
        staircase: see `Staircase`.
        exclusion: see `Exclusion`.
        recruiting: see `Recruiting`.

    References:
        Denton et al. (2015), section 5.3.
        Zhou et al. (2019), HYPE, for the untimed mode.
    """

    title: str = Field(default="Real or fake?", min_length=1, max_length=120)
    language: str = Field(default="en", min_length=2)
    seed: int = Field(default=0, ge=0, lt=2**63)
    mode: Literal["durations", "untimed", "staircase"] = "durations"
    trials: int = Field(default=110, ge=1, le=2000)
    durations_ms: tuple[_Milliseconds, ...] = Field(default=PAPER_DURATIONS_MS, min_length=1)
    real_share: float | None = Field(default=None, gt=0, lt=1)
    blocks: int = Field(default=5, ge=1, le=50)
    practice_trials: int = Field(default=8, ge=0, le=50)
    catch_trials: int = Field(default=4, ge=0, le=50)
    examples: int = Field(default=8, ge=0, le=32)
    images_per_source: int = Field(default=120, ge=1, le=20_000)
    crop: int | None = Field(default=None, ge=4)
    zoom: int | None = Field(default=None, ge=1, le=64)
    mask: Literal["grey", "noise"] = "grey"
    fixation_ms: float = Field(default=500.0, ge=0, le=5000)
    sides: Literal["balanced", "real-left", "real-right"] = "balanced"
    staircase: Staircase = Staircase()
    exclusion: Exclusion = Exclusion()
    recruiting: Recruiting = Recruiting()

    @model_validator(mode="after")
    def _check_consistency(self) -> "Design":
        if len(set(self.durations_ms)) < len(self.durations_ms):
            raise ValueError("durations_ms: expected different times, found one twice")
        if self.blocks > self.trials:
            raise ValueError("blocks: expected at most as many blocks as trials")
        return self

    @property
    def longest_ms(self) -> float | None:
        """The longest time of this design; None when images stay until the answer."""
        if self.mode == "untimed":
            return None
        return max(self.durations_ms) if self.mode == "durations" else self.staircase.max_ms


def read_design(path: Path | None, changes: Mapping[str, object] | None = None) -> Design:
    """Reads a `study.toml`; without one, returns the paper's design.

    A file of texts is looked for beside it.

    Args:
        path: the file.
        changes: keys that replace those of the file.

    Raises:
        LapganError: the file is missing or not TOML, or a key is unknown or out of range.
    """
    content = parse_toml(_read_text(path), str(path)) if path else {}
    language = content.get("language")
    if path and isinstance(language, str) and language.endswith(".toml"):
        content["language"] = str(path.parent / language)
    return validate(Design, {**content, **(changes or {})}, str(path or "options"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LapganError(
            f"{path}: cannot be read ({error.strerror}). Choose a file that exists."
        ) from error
    except UnicodeDecodeError as error:
        raise LapganError(f"{path}: not a UTF-8 text ({error}). Save it as UTF-8.") from error
