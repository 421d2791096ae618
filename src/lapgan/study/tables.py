"""The tables of a study's database, SQLite or PostgreSQL, and the connection to it."""

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from lapgan.errors import LapganError, requires
from lapgan.study.answers import MEASURED, Kind

__all__ = [
    "PAUSED",
    "SCHEMA",
    "answers",
    "check_meta",
    "claim_database",
    "connect",
    "details",
    "digest_of",
    "is_paused",
    "meta",
    "raters",
    "tables",
    "trials",
    "utc_now",
]

SCHEMA = 1

_SQL_TYPES: Mapping[Kind, Any] = {
    "text": sa.String(64),
    "boolean": sa.Boolean,
    "integer": sa.Integer,
    "number": sa.Float,
}

tables = sa.MetaData()
meta = sa.Table(
    "study_meta",
    tables,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
raters = sa.Table(
    "study_raters",
    tables,
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
trials = sa.Table(
    "study_trials",
    tables,
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
answers = sa.Table(
    "study_answers",
    tables,
    sa.Column("trial_id", sa.ForeignKey("study_trials.id"), primary_key=True),
    sa.Column("said_real", sa.Boolean, nullable=False),
    *(sa.Column(name, _SQL_TYPES[item.kind], nullable=False) for name, item in MEASURED.items()),
    sa.Column("answered_at", sa.String(32), nullable=False),
)
# What is known of a rater beyond the columns above; databases of earlier releases lack the table.
details = sa.Table(
    "study_details",
    tables,
    sa.Column("rater_id", sa.ForeignKey("study_raters.id"), primary_key=True),
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)

PAUSED = sa.select(meta.c.value).where(meta.c.key == "paused")


def connect(url: str) -> sa.Engine:
    """Returns an engine for a database URL; a plain `postgresql://` uses psycopg.

    Raises:
        LapganError: the URL is not one of a database, or its driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        with requires("postgres", f"The database {parsed!r}"):
            engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError) as error:
        raise LapganError(
            f"{url}: not a database URL ({error}). Expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/NAME."
        ) from error
    if engine.dialect.name == "sqlite":
        _create_private(parsed.database)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def claim_database(connection: sa.Connection, fingerprint: str) -> None:
    """Marks an empty database as that of the study with this fingerprint."""
    if connection.execute(sa.select(meta)).first() is None:
        content = {"schema": str(SCHEMA), "study": fingerprint, "paused": "0"}
        rows = [{"key": key, "value": value} for key, value in content.items()]
        connection.execute(meta.insert(), rows)


def check_meta(connection: sa.Connection, fingerprint: str) -> None:
    """Checks that a database has this release's schema and belongs to a study.

    Raises:
        LapganError: it has another schema or belongs to another study.
    """
    content = {row.key: row.value for row in connection.execute(sa.select(meta))}
    name = f"{connection.engine.url!r}"
    if content.get("schema") != str(SCHEMA):
        raise LapganError(
            f"{name}: schema {content.get('schema')}, expected {SCHEMA}. Export the answers with "
            "the lapgan release that wrote them, or use another database."
        )
    if content.get("study") != fingerprint:
        raise LapganError(
            f"{name}: holds the answers of another study. Every study needs a database of its own; "
            "choose one with --database."
        )


def is_paused(connection: sa.Connection) -> bool:
    """Returns whether the study is paused."""
    return bool(connection.execute(PAUSED).scalar_one() == "1")


def digest_of(text: str) -> str:
    """Returns the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def utc_now() -> str:
    """Returns the present time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _create_private(database: str | None) -> None:
    """Creates the file of a new database for its owner alone; SQLite reports what fails."""
    path = Path(database or ":memory:")
    if str(path) != ":memory:" and not path.exists():
        with suppress(OSError):
            path.touch(0o600)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours to send, see `_begin_sqlite`
    # secure_delete: what a rater wants removed is overwritten with zeros.
    for pragma in (
        *("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"),
        *("busy_timeout=10000", "secure_delete=ON"),
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
