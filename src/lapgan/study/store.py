"""Where raters, their trials and their answers are kept: SQLite or PostgreSQL, by SQLAlchemy.

An answer is acknowledged only after its transaction is on the disk. Trials are answered in their
order; the first answer to a trial stands, and sending it again changes nothing.
"""

import hashlib
import secrets
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError

from lapgan.errors import LapganError
from lapgan.study.design import REAL, plan_sitting, real_is_left, staircase_ms
from lapgan.study.group_commit import GroupCommit
from lapgan.study.stimuli import Study

__all__ = ["SCHEMA", "Answer", "Receipt", "RefusedError", "Sitting", "Store", "TrialView"]

SCHEMA = 1

_tables = sa.MetaData()
_meta = sa.Table(
    "study_meta",
    _tables,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_raters = sa.Table(
    "study_raters",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("code", sa.String(16), unique=True, nullable=False),
    sa.Column("token_sha256", sa.String(64), unique=True, nullable=False),
    sa.Column("done", sa.Integer, nullable=False, default=0),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.Column("real_left", sa.Boolean, nullable=False, default=True),
    sa.Column("consent_sha256", sa.String(64), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("joined_at", sa.String(32), nullable=False),
    sa.Column("finished_at", sa.String(32)),
)
_trials = sa.Table(
    "study_trials",
    _tables,
    sa.Column("id", sa.String(24), primary_key=True),
    sa.Column("rater_id", sa.ForeignKey("study_raters.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("block", sa.Integer, nullable=False),
    sa.Column("phase", sa.String(10), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("staircase", sa.String(64)),
    sa.Column("stimulus", sa.String(32), nullable=False),
    sa.Column("asked_ms", sa.Float),
    sa.UniqueConstraint("rater_id", "position"),
)
_answers = sa.Table(
    "study_answers",
    _tables,
    sa.Column("trial_id", sa.ForeignKey("study_trials.id"), primary_key=True),
    sa.Column("said_real", sa.Boolean, nullable=False),
    sa.Column("response_ms", sa.Float, nullable=False),
    sa.Column("achieved_ms", sa.Float, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("refresh_hz", sa.Float, nullable=False),
    sa.Column("dropped_frames", sa.Integer, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("resumed", sa.Boolean, nullable=False),
    sa.Column("input", sa.String(10), nullable=False),
    sa.Column("answered_at", sa.String(32), nullable=False),
)

Result = TypeVar("Result")

_Duration = Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=100_000_000)]


class Answer(BaseModel):
    """What a browser reports about one trial; times in milliseconds on the page's clock.

    Attributes:
        trial: the trial's id.
        answer: the judgement.
        response_ms: from the image's onset to the answer.
        achieved_ms: from the image's onset frame to its offset frame.
        frames: animation frames the image was on the screen.
        refresh_hz: refresh rate of the screen, estimated before the block.
        dropped_frames: frames that failed to come while the image was shown.
        hidden: whether the page lost visibility between fixation and answer.
        resumed: whether the image had been shown before a reload.
        input: how the answer was given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    trial: str = Field(min_length=1, max_length=24, pattern=r"^[A-Za-z0-9_-]+$")
    answer: Literal["real", "fake"]
    response_ms: _Duration
    achieved_ms: _Duration
    frames: _Count
    refresh_hz: float = Field(ge=1, le=2000, allow_inf_nan=False)
    dropped_frames: _Count
    hidden: bool
    resumed: bool
    input: Literal["keyboard", "touch", "mouse"]


@dataclass(frozen=True)
class TrialView:
    """What a browser may know of a trial before its answer."""

    trial: str
    image: str
    asked_ms: float | None
    practice: bool


@dataclass(frozen=True)
class Sitting:
    """Where a rater stands. `images` are those still to come in the present block."""

    code: str
    real_left: bool
    done: int
    total: int
    block: int
    images: tuple[str, ...]
    next: TrialView | None
    paused: bool


@dataclass(frozen=True)
class Receipt:
    """The acknowledgement of an answer that is stored.

    `truth` is given after practice trials only. `next` is None at the end of a block.
    """

    repeated: bool
    truth: Literal["real", "fake"] | None
    done: int
    total: int
    next: TrialView | None
    paused: bool


class RefusedError(Exception):
    """A request that a rater may not make; `reason` is one of the words below."""

    def __init__(self, reason: Literal["unknown-rater", "unknown-trial", "out-of-order"]) -> None:
        super().__init__(reason)
        self.reason = reason


class Store:
    """The answers of one study in one database.

    Args:
        study: the frozen study.
        url: an SQLAlchemy URL; None keeps `answers.sqlite` in the study's folder. A plain
            `postgresql://` URL uses psycopg.

    Raises:
        LapganError: the database cannot be reached, belongs to another study, or has the schema
            of another release.
    """

    def __init__(self, study: Study, url: str | None = None) -> None:
        self._study = study
        self._pools = study.pools()
        self._sources = {item.name: item.source for item in study.manifest.stimuli}
        self._engine = _connect(url or f"sqlite:///{study.folder / 'answers.sqlite'}")
        self._commits = GroupCommit(self._engine)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stores what is on its way and closes all connections."""
        self._commits.close()
        self._engine.dispose()

    def join(self, *, simulated: bool = False) -> Future[str]:
        """Takes in a rater who has consented, and plans the whole sitting.

        Returns:
            The rater's token, once the sitting is on the disk; only its hash is stored.
        """
        token = secrets.token_urlsafe(24)
        return self._commits.submit(lambda connection: self._join(connection, token, simulated))

    def sitting(self, token: str) -> Sitting:
        """Where the rater with this token stands, and what comes next.

        Raises:
            RefusedError: no rater has this token.
        """
        with self._reading() as connection:
            standing = _standings(connection, [token])[token]
            rater, row = standing.rater, standing.next
            return Sitting(
                code=rater.code,
                real_left=rater.real_left,
                done=rater.done,
                total=rater.total,
                block=row.block if row else self._study.design.blocks,
                images=self._images_left(connection, row),
                next=self._view(standing, row) if row else None,
                paused=rater.paused == "1",
            )

    def answer(self, token: str, answer: Answer) -> Future[Receipt]:
        """Stores an answer.

        Returns:
            The receipt, once the answer is on the disk; or RefusedError: no rater has this token,
            the trial is not this rater's, or it is not the rater's next one.
        """
        return self._commits.submit_item(self._answer_all, (token, answer))

    def source_of(self, image: str) -> str:
        """Where an image comes from; for simulated raters, who cannot look at it."""
        return self._sources[image]

    def set_paused(self, paused: bool) -> None:
        """Pauses the study or takes it up again; answers on their way are still accepted."""
        change = _meta.update().where(_meta.c.key == "paused").values(value=str(int(paused)))
        self._commits.submit(lambda connection: connection.execute(change)).result()

    def is_paused(self) -> bool:
        """Whether the study is paused."""
        with self._reading() as connection:
            return _is_paused(connection)

    def progress(self) -> list[Mapping[str, Any]]:
        """One row a rater: code, done, total, simulated, joined_at, finished_at."""
        columns = ("code", "done", "total", "simulated", "joined_at", "finished_at")
        query = sa.select(*(_raters.c[name] for name in columns)).order_by(_raters.c.id)
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def rows(self) -> list[dict[str, Any]]:
        """Every answered trial, one flat row each, in order of rater and position."""
        query = (
            sa.select(
                _raters.c.code.label("rater"),
                _raters.c.simulated,
                _raters.c.real_left,
                _trials.c.id.label("trial"),
                *(_trials.c[name] for name in ("position", "block", "phase", "source")),
                *(_trials.c[name] for name in ("staircase", "stimulus", "asked_ms")),
                *(column for column in _answers.c if column.name != "trial_id"),
            )
            .join(_trials, _trials.c.rater_id == _raters.c.id)
            .join(_answers, _answers.c.trial_id == _trials.c.id)
            .order_by(_raters.c.id, _trials.c.position)
        )
        with self._reading() as connection:
            return [_flat(dict(row)) for row in connection.execute(query).mappings()]

    def _prepare(self) -> None:
        try:
            _tables.create_all(self._engine)
            self._check_meta()
        except OperationalError as error:
            raise LapganError(
                f"{self._engine.url!r}: the database cannot be used ({error.orig}). Check that it "
                "runs, that it is reachable and that you may write to it."
            ) from error

    def _check_meta(self) -> None:
        mine = {"schema": str(SCHEMA), "study": self._study.fingerprint, "paused": "0"}
        # Another process may be making the same rows at this moment: the first one wins.
        with suppress(IntegrityError):
            self._commits.submit(lambda connection: _claim(connection, mine)).result()
        with self._reading() as connection:
            found = {row.key: row.value for row in connection.execute(sa.select(_meta))}
        if found.get("schema") != mine["schema"]:
            raise LapganError(
                f"{self._engine.url!r}: schema {found.get('schema')}, expected {SCHEMA}. Export "
                "with the lapgan release that wrote it, or name another database."
            )
        if found.get("study") != mine["study"]:
            raise LapganError(
                f"{self._engine.url!r}: holds the answers of another study. Name another database "
                "with --database; each study has its own."
            )

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    def _join(self, connection: sa.Connection, token: str, simulated: bool) -> str:
        rater_id = connection.execute(
            _raters.insert()
            .values(
                code=f"R-{secrets.token_hex(4)}",
                token_sha256=_digest(token),
                consent_sha256=_digest(self._study.consent),
                simulated=simulated,
                joined_at=_now(),
            )
            .returning(_raters.c.id)
        ).scalar_one()
        self._plan(connection, rater_id)
        return token

    def _answer_all(
        self, connection: sa.Connection, given: Sequence[tuple[str, Answer]]
    ) -> list[Receipt]:
        """Decides in memory what becomes of each answer, in order, and writes all at once."""
        tokens, answers = zip(*given, strict=True)
        standings = _standings(connection, tokens, [item.trial for item in answers], lock=True)
        receipts = [self._answer(standings[token], answer) for token, answer in given]
        _write(connection, standings.values())
        return receipts

    def _answer(self, standing: "_Standing", answer: Answer) -> Receipt:
        trial = standing.trial(answer.trial)
        repeated = trial.position < standing.done
        if trial.position > standing.done:
            raise RefusedError("out-of-order")
        if not repeated:
            standing.accept(self._view(standing, trial), answer)
        following = standing.next
        same_block = following is not None and following.block == trial.block
        return Receipt(
            repeated=repeated,
            truth=_truth(trial) if trial.phase == "practice" else None,
            done=standing.done,
            total=standing.rater.total,
            next=self._view(standing, following) if same_block else None,
            paused=standing.rater.paused == "1",
        )

    def _plan(self, connection: sa.Connection, rater_id: int) -> None:
        index = rater_id - 1
        design = self._study.design
        planned = plan_sitting(design, self._study.manifest.fakes, self._pools, index)
        connection.execute(
            _trials.insert(),
            [
                {"id": secrets.token_urlsafe(15), "rater_id": rater_id, **vars(trial)}
                for trial in planned
            ],
        )
        connection.execute(
            _raters.update()
            .where(_raters.c.id == rater_id)
            .values(total=len(planned), real_left=real_is_left(design, index))
        )

    def _images_left(self, connection: sa.Connection, row: Any) -> tuple[str, ...]:
        if row is None:
            return ()
        place = {"rater": row.rater_id, "in_block": row.block, "position": row.position}
        return tuple(connection.execute(_IMAGES_LEFT, place).scalars())

    def _view(self, standing: "_Standing", row: Any) -> TrialView:
        milliseconds = row.asked_ms
        if row.staircase is not None:
            rule = self._study.design.staircase
            milliseconds = staircase_ms(rule, standing.outcomes[row.staircase])
        return TrialView(row.id, row.stimulus, milliseconds, row.phase == "practice")


@dataclass
class _Standing:
    """Where a rater stands within a transaction; it moves on with every answer accepted.

    Attributes:
        rater: the rater's row, as it was read.
        done: trials answered.
        trials: by position: the next ones, and those that an answer names.
        outcomes: by staircase, whether each answer was correct, oldest first.
        answers: rows that are still to be written.
        times: the same, of staircases' presentation times in milliseconds.
    """

    rater: Any
    done: int
    trials: dict[int, Any] = field(default_factory=dict)
    outcomes: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    answers: list[dict[str, Any]] = field(default_factory=list)
    times: list[dict[str, Any]] = field(default_factory=list)

    @property
    def next(self) -> Any:
        """The row of the trial to answer next; None at the end."""
        return self.trials.get(self.done)

    def trial(self, name: str) -> Any:
        """The row of this rater's trial with an id.

        Raises:
            RefusedError: the rater has no such trial.
        """
        for row in self.trials.values():
            if row.id == name:
                return row
        raise RefusedError("unknown-trial")

    def accept(self, view: TrialView, answer: Answer) -> None:
        """Takes the answer to the next trial, which was shown as `view`."""
        said_real = answer.answer == "real"
        row = self.next
        if row.staircase is not None:
            self.times.append({"trial": row.id, "shown_ms": view.asked_ms})
            self.outcomes[row.staircase].append((row.source == REAL) == said_real)
        values = answer.model_dump(exclude={"trial", "answer"})
        self.answers.append(
            {"trial_id": row.id, "said_real": said_real, "answered_at": _now(), **values}
        )
        self.done += 1

    def advance(self) -> dict[str, Any]:
        """What the rater's row is to become."""
        end = self.answers[-1]["answered_at"] if self.done == self.rater.total else None
        return {"rater": self.rater.id, "now_done": self.done, "end": end}


def _connect(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError) as error:
        raise LapganError(
            f"{url}: is not a database URL ({error}). Expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/NAME."
        ) from error
    except ModuleNotFoundError as error:
        raise LapganError(
            f"{url}: the driver is missing ({error}). Run `pip install lapgan[postgres]`."
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours to send, see `_begin_sqlite`
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


# Statements of the two calls that every trial makes, built once.
_PAUSED = sa.select(_meta.c.value).where(_meta.c.key == "paused")
_RATERS = sa.select(_raters, _PAUSED.scalar_subquery().label("paused")).where(
    _raters.c.token_sha256.in_(sa.bindparam("tokens", expanding=True))
)
# In one order, so that two servers on one database never wait for each other.
_RATERS_LOCKED = _RATERS.order_by(_raters.c.id).with_for_update()
_of_raters = _trials.c.rater_id.in_(sa.bindparam("raters", expanding=True))
_TRIALS_AHEAD = (
    sa.select(_trials)
    .join(_raters, _trials.c.rater_id == _raters.c.id)
    .where(_raters.c.id.in_(sa.bindparam("raters", expanding=True)))
    .where(_trials.c.position.between(_raters.c.done, _raters.c.done + sa.bindparam("ahead")))
)
_TRIALS_NAMED = sa.select(_trials).where(
    _of_raters, _trials.c.id.in_(sa.bindparam("names", expanding=True))
)
_IMAGES_LEFT = (
    sa.select(_trials.c.stimulus)
    .where(_trials.c.rater_id == sa.bindparam("rater"))
    .where(_trials.c.block == sa.bindparam("in_block"))
    .where(_trials.c.position >= sa.bindparam("position"))
    .order_by(_trials.c.position)
)
_INSERT_ANSWER = _answers.insert()
_ADVANCE = (
    _raters.update()
    .where(_raters.c.id == sa.bindparam("rater"))
    .values(done=sa.bindparam("now_done"), finished_at=sa.bindparam("end"))
)
_NOTE_TIME = (
    _trials.update()
    .where(_trials.c.id == sa.bindparam("trial"))
    .values(asked_ms=sa.bindparam("shown_ms"))
)
_OUTCOMES = (
    sa.select(_trials.c.rater_id, _trials.c.staircase, _trials.c.source, _answers.c.said_real)
    .join(_answers, _answers.c.trial_id == _trials.c.id)
    .where(_of_raters, _trials.c.staircase.is_not(None))
    .order_by(_trials.c.rater_id, _trials.c.position)
)


def _claim(connection: sa.Connection, mine: Mapping[str, str]) -> None:
    if connection.execute(sa.select(_meta)).first() is None:
        rows = [{"key": key, "value": value} for key, value in mine.items()]
        connection.execute(_meta.insert(), rows)


def _standings(
    connection: sa.Connection,
    tokens: Sequence[str],
    names: Sequence[str] = (),
    *,
    lock: bool = False,
) -> dict[str, _Standing]:
    """Reads all that answers to the trials `names` need, in two to four queries.

    Args:
        connection: in a transaction.
        tokens: one for each answer.
        names: ids of trials.
        lock: whether other transactions are kept from these raters.

    Returns:
        By token.

    Raises:
        RefusedError: a token is no rater's.
    """
    digests = {token: _digest(token) for token in tokens}
    query = _RATERS_LOCKED if lock else _RATERS
    raters = connection.execute(query, {"tokens": list(digests.values())})
    by_digest = {row.token_sha256: _Standing(row, row.done) for row in raters}
    if len(by_digest) < len(digests):
        raise RefusedError("unknown-rater")
    by_id = {standing.rater.id: standing for standing in by_digest.values()}
    ahead = max(Counter(tokens).values())
    found = _add_trials(connection, by_id, _TRIALS_AHEAD, ahead=ahead)
    if others := set(names) - found:
        _add_trials(connection, by_id, _TRIALS_NAMED, names=list(others))
    _add_outcomes(connection, by_id)
    return {token: by_digest[digest] for token, digest in digests.items()}


def _add_trials(
    connection: sa.Connection, standings: Mapping[int, _Standing], query: sa.Select[Any], **by: Any
) -> set[str]:
    """Adds the trials that `query` finds among these raters'; returns their ids."""
    rows = connection.execute(query, {"raters": list(standings), **by}).all()
    for row in rows:
        standings[row.rater_id].trials[row.position] = row
    return {row.id for row in rows}


def _add_outcomes(connection: sa.Connection, standings: Mapping[int, _Standing]) -> None:
    climbing = [
        rater
        for rater, standing in standings.items()
        if any(row.staircase is not None for row in standing.trials.values())
    ]
    if climbing:
        for row in connection.execute(_OUTCOMES, {"raters": climbing}):
            correct = (row.source == REAL) == row.said_real
            standings[row.rater_id].outcomes[row.staircase].append(correct)


def _write(connection: sa.Connection, standings: Iterable[_Standing]) -> None:
    moved = [standing for standing in standings if standing.answers]
    tables = (
        (_INSERT_ANSWER, [row for standing in moved for row in standing.answers]),
        (_NOTE_TIME, [row for standing in moved for row in standing.times]),
        (_ADVANCE, [standing.advance() for standing in moved]),
    )
    for statement, rows in tables:
        if rows:  # SQLAlchemy would take an empty list for one row of defaults
            connection.execute(statement, rows)


def _is_paused(connection: sa.Connection) -> bool:
    return bool(connection.execute(_PAUSED).scalar_one() == "1")


def _truth(trial: Any) -> Literal["real", "fake"]:
    return "real" if trial.source == REAL else "fake"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    real = row["source"] == REAL
    return {**row, "real": real, "correct": real == row["said_real"]}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
