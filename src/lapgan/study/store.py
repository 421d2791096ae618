"""The store of raters, their trials and their answers.

An answer is acknowledged only after its transaction is on the disk. Trials are answered in order;
the first answer to a trial stands, and sending it again changes nothing.
"""

import secrets
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from lapgan.errors import LapganError
from lapgan.files import atomic_path
from lapgan.study.answers import Answer, Completion, Receipt, Row, Screen, Sitting, add_truth
from lapgan.study.design import Pools
from lapgan.study.group_commit import GroupCommit
from lapgan.study.planning import plan_sitting, real_is_left
from lapgan.study.standing import read_images_left, read_standings, write_standings
from lapgan.study.stimuli import Study
from lapgan.study.tables import (
    answers,
    check_meta,
    claim_database,
    connect,
    details,
    digest_of,
    is_paused,
    meta,
    raters,
    tables,
    trials,
    utc_now,
)

__all__ = ["Store", "back_up"]

_PROGRESS = ("code", "done", "total", "simulated", "joined_at", "finished_at", "consent_sha256")


class Store:
    """The answers of one study in one database.

    Args:
        study: the frozen study.
        url: an SQLAlchemy URL; None stores `answers.sqlite` in the study's folder. A plain
            `postgresql://` URL uses psycopg.

    Raises:
        LapganError: the database cannot be reached, belongs to another study, or has the schema
            of another release.
    """

    def __init__(self, study: Study, url: str | None = None) -> None:
        self._study = study
        self._rule = study.design.staircase
        self._pools = study.pools()
        self._sources = {item.name: item.source for item in study.manifest.stimuli}
        self._engine = connect(url or f"sqlite:///{study.folder / 'answers.sqlite'}")
        self._commits = GroupCommit(self._engine)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stores the answers that wait and closes all connections."""
        self._commits.close()
        self._engine.dispose()

    def join(
        self, *, simulated: bool = False, origin: Mapping[str, str] | None = None
    ) -> Future[str]:
        """Adds a rater who has consented, and plans the whole sitting.

        Args:
            simulated: whether the rater is a program.
            origin: parameters of the address that the rater came with, to be stored.

        Returns:
            The rater's token, once the sitting is on the disk; only its hash is stored.
        """
        token = secrets.token_urlsafe(24)
        return self._commits.submit(
            lambda it: _add_rater(it, self._study, self._pools, token, simulated, origin or {})
        )

    def describe(self, token: str, screen: Screen) -> None:
        """Stores what a rater's browser says of its window; what it said first stands.

        Raises:
            RefusedError: no rater has this token.
        """
        # With a dot, which no parameter of an address has.
        values = {f"screen.{name}": f"{value:g}" for name, value in screen.model_dump().items()}

        def write(connection: sa.Connection) -> None:
            rater = read_standings(connection, self._rule, [token])[token].rater.id
            stored = _read_details(connection, rater)
            _add_details(connection, rater, {k: v for k, v in values.items() if k not in stored})

        self._commits.submit(write).result()

    def remove(self, codes: Collection[str]) -> list[str]:
        """Deletes raters with their trials and answers, for good; returns the codes found.

        Backups and exports that were made before still hold them.
        """
        return self._commits.submit(lambda connection: _remove_raters(connection, codes)).result()

    def check_writable(self) -> None:
        """Writes to the database once, without a change.

        Raises:
            LapganError: it cannot be written.
        """
        same = meta.update().where(meta.c.key == "paused").values(value=meta.c.value)
        try:
            self._commits.submit(lambda connection: connection.execute(same)).result()
        except DBAPIError as error:
            raise LapganError(
                f"{self._engine.url!r}: cannot be written ({error.orig}), so that no answer could "
                "be stored. Make it writable, or choose another place with --database."
            ) from error

    def sitting(self, token: str) -> Sitting:
        """Returns the progress of the rater with this token, and what comes next.

        Raises:
            RefusedError: no rater has this token.
        """
        with _read(self._engine) as connection:
            standing = read_standings(connection, self._rule, [token])[token]
            rater, trial = standing.rater, standing.next
            return Sitting(
                code=rater.code,
                real_left=rater.real_left,
                done=rater.done,
                total=rater.total,
                block=trial.block if trial else self._study.design.blocks,
                images=read_images_left(connection, trial),
                next=standing.view(trial) if trial else None,
                paused=standing.is_paused,
                completion=None if trial else _complete(connection, self._study, rater.id),
            )

    def answer(self, token: str, answer: Answer) -> Future[Receipt]:
        """Stores an answer.

        Returns:
            The receipt, once the answer is on the disk; or RefusedError: no rater has this token,
            the trial is not this rater's, or it is not the rater's next one.
        """
        return self._commits.submit_item(self._answer_all, (token, answer))

    def source_of(self, image: str) -> str:
        """Returns an image's source; simulated raters need it, as they cannot look at images."""
        return self._sources[image]

    def set_paused(self, paused: bool) -> None:
        """Pauses the study or continues it; answers that are on their way are still accepted."""
        change = meta.update().where(meta.c.key == "paused").values(value=str(int(paused)))
        self._commits.submit(lambda connection: connection.execute(change)).result()

    def is_paused(self) -> bool:
        """Returns whether the study is paused."""
        with _read(self._engine) as connection:
            return is_paused(connection)

    def progress(self) -> list[Mapping[str, Any]]:
        """Returns one row per rater: columns of `export.RATER_COLUMNS`, and `details` by name."""
        columns = [raters.c[name] for name in _PROGRESS]
        query = sa.select(raters.c.id, *columns).order_by(raters.c.id)
        with _read(self._engine) as connection:
            by_rater = _read_all_details(connection)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [{**row, "details": by_rater.get(row.pop("id"), {})} for row in rows]

    def rows(self) -> list[Row]:
        """Returns every answered trial as a row of `COLUMNS`, in order of rater and position."""
        query = (
            sa.select(
                raters.c.code.label("rater"),
                raters.c.simulated,
                raters.c.real_left,
                trials.c.id.label("trial"),
                *(column for column in trials.c if column.name not in ("id", "rater_id")),
                *(column for column in answers.c if column.name != "trial_id"),
            )
            .join(trials, trials.c.rater_id == raters.c.id)
            .join(answers, answers.c.trial_id == trials.c.id)
            .order_by(raters.c.id, trials.c.position)
        )
        with _read(self._engine) as connection:
            return [add_truth(dict(row)) for row in connection.execute(query).mappings()]

    def _prepare(self) -> None:
        fingerprint = self._study.fingerprint
        try:
            tables.create_all(self._engine, [meta, raters, trials, answers])
            # Databases of earlier releases lack it; where they cannot be written, it stays so.
            with suppress(OperationalError):
                details.create(self._engine, checkfirst=True)
            # Another process may be writing the same rows at this moment: the first one wins.
            with suppress(IntegrityError):
                claim = self._commits.submit(lambda it: claim_database(it, fingerprint))
                claim.result()
            with _read(self._engine) as connection:
                check_meta(connection, fingerprint)
        except OperationalError as error:
            raise LapganError(
                f"{self._engine.url!r}: the database cannot be used ({error.orig}). Check that it "
                "runs, that it is reachable and that you may write to it."
            ) from error

    def _answer_all(
        self, connection: sa.Connection, batch: Sequence[tuple[str, Answer]]
    ) -> list[Receipt]:
        """Decides about each answer in memory, in order, and writes them all at once."""
        tokens, sent = zip(*batch, strict=True)
        trial_ids = [answer.trial for answer in sent]
        standings = read_standings(connection, self._rule, tokens, trial_ids, lock=True)
        receipts = [standings[token].decide(answer) for token, answer in batch]
        write_standings(connection, standings.values())
        return receipts


def back_up(study: Study, url: str | None, out: Path) -> None:
    """Copies the answers into a new SQLite file; the server may be running.

    `answers.sqlite` alone is not a copy: recent answers are in the `-wal` file beside it.

    Args:
        study: the frozen study.
        url: of its database, like that of `Store`.
        out: the new file.

    Raises:
        LapganError: `out` exists or cannot be written, there are no answers, or the database is
            not SQLite.
    """
    engine = connect(url or f"sqlite:///{study.folder / 'answers.sqlite'}")
    if engine.dialect.name != "sqlite":
        raise LapganError(f"{engine.url!r}: not SQLite. Use the database's own pg_dump.")
    if out.exists():
        raise LapganError(f"{out}: already exists. Choose another file; none is overwritten.")
    source = Path(engine.url.database or "")
    with atomic_path(out) as temporary:
        try:
            connection = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
            try:
                connection.execute("VACUUM INTO ?", (str(temporary),))
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise LapganError(
                f"{source}: cannot be copied ({error}). Check that it is the study's database and "
                "that there is space for the copy."
            ) from error
    out.chmod(0o600)


@contextmanager
def _read(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(reading=True)


def _complete(connection: sa.Connection, study: Study, rater: int) -> Completion:
    """Returns the end of a sitting: the code, and the address with the rater's parameters."""
    recruiting = study.design.recruiting
    url, stored = recruiting.completion_url, _read_details(connection, rater)
    for name in recruiting.parameters:
        url = url and url.replace(f"{{{name}}}", quote(stored.get(name, ""), safe=""))
    return Completion(recruiting.completion_code, url)


def _add_details(connection: sa.Connection, rater: int, values: Mapping[str, str]) -> None:
    rows = [{"rater_id": rater, "key": key, "value": value} for key, value in values.items()]
    if rows:
        connection.execute(details.insert(), rows)


def _read_details(connection: sa.Connection, rater: int) -> dict[str, str]:
    return _read_all_details(connection, details.c.rater_id == rater).get(rater, {})


def _read_all_details(
    connection: sa.Connection, *which: sa.ColumnElement[bool]
) -> dict[int, dict[str, str]]:
    """Returns details by rater; none in a database that cannot be written and lacks the table."""
    if not sa.inspect(connection).has_table(details.name):
        return {}
    by_rater: dict[int, dict[str, str]] = {}
    for row in connection.execute(sa.select(details).where(*which)):
        by_rater.setdefault(row.rater_id, {})[row.key] = row.value
    return by_rater


def _add_rater(
    connection: sa.Connection,
    study: Study,
    pools: Pools,
    token: str,
    simulated: bool,
    origin: Mapping[str, str],
) -> str:
    rater_id = connection.execute(
        raters.insert()
        .values(
            code=f"R-{secrets.token_hex(4)}",
            token_sha256=digest_of(token),
            consent_sha256=digest_of(study.consent),
            simulated=simulated,
            joined_at=utc_now(),
        )
        .returning(raters.c.id)
    ).scalar_one()
    _add_details(connection, rater_id, origin)
    index, manifest = rater_id - 1, study.manifest
    planned = plan_sitting(study.design, manifest.fakes, pools, index, manifest.salt)
    connection.execute(
        trials.insert(),
        [
            {"id": secrets.token_urlsafe(15), "rater_id": rater_id, **vars(trial)}
            for trial in planned
        ],
    )
    connection.execute(
        raters.update()
        .where(raters.c.id == rater_id)
        .values(total=len(planned), real_left=real_is_left(study.design, index))
    )
    return token


def _remove_raters(connection: sa.Connection, codes: Collection[str]) -> list[str]:
    found = sa.select(raters.c.id, raters.c.code).where(raters.c.code.in_(list(codes)))
    rows = connection.execute(found.with_for_update()).all()
    ids = [row.id for row in rows]
    theirs = sa.select(trials.c.id).where(trials.c.rater_id.in_(ids))
    connection.execute(answers.delete().where(answers.c.trial_id.in_(theirs)))
    connection.execute(trials.delete().where(trials.c.rater_id.in_(ids)))
    connection.execute(details.delete().where(details.c.rater_id.in_(ids)))
    connection.execute(raters.delete().where(raters.c.id.in_(ids)))
    return [row.code for row in rows]
