"""A rater's state within a transaction, and the statements that read and write it.

All that is needed to decide about a batch of answers is read at once; each answer is decided in
memory, in order; then everything is written with one statement per table.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from lapgan.study.answers import Answer, Receipt, Row, TrialView, is_correct, truth_of
from lapgan.study.design import Staircase
from lapgan.study.planning import staircase_ms
from lapgan.study.tables import PAUSED, answers, digest_of, raters, trials, utc_now

__all__ = [
    "RefusedError",
    "Standing",
    "read_images_left",
    "read_standings",
    "write_standings",
]


Reason = Literal["unknown-rater", "unknown-trial", "out-of-order", "impossible-time"]


class RefusedError(Exception):
    """A request that a rater may not make; `reason` is one of the words below."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Standing:
    """A rater's state within a transaction; it advances with every accepted answer.

    Args:
        rater: the rater's row, as it was read.
        rule: sets the times of staircases.
        done: number of trials answered.
        trials: rows by position: the next ones, and those that an answer names.
        outcomes: by staircase, whether each answer was correct, oldest first.
        answers: rows that are still to be written.
        times: presentation times of staircases (ms) that are still to be written.
    """

    rater: Any
    rule: Staircase
    done: int
    trials: dict[int, Any] = field(default_factory=dict)
    outcomes: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    answers: list[Row] = field(default_factory=list)
    times: list[Row] = field(default_factory=list)

    @property
    def next(self) -> Any:
        """The row of the trial to answer next; None at the end."""
        return self.trials.get(self.done)

    @property
    def is_paused(self) -> bool:
        """Whether the study is paused."""
        return bool(self.rater.paused == "1")

    def view(self, row: Any) -> TrialView:
        """Returns what the browser may learn about a trial."""
        milliseconds = row.asked_ms
        if row.staircase is not None:
            milliseconds = staircase_ms(self.rule, self.outcomes[row.staircase])
        return TrialView(row.id, row.stimulus, milliseconds, row.phase == "practice")

    def decide(self, answer: Answer) -> Receipt:
        """Accepts an answer to the next trial, and acknowledges one to an earlier trial again.

        Raises:
            RefusedError: the rater has no such trial, it comes after the next one, or it was
                answered before its image was covered.
        """
        trial = self._find_trial(answer.trial)
        repeated = trial.position < self.done
        if trial.position > self.done:
            raise RefusedError("out-of-order")
        if not repeated:
            if trial.asked_ms is not None or trial.staircase is not None:
                _check_times(answer)
            self._accept(trial, answer)
        following = self.next
        same_block = following is not None and following.block == trial.block
        return Receipt(
            repeated=repeated,
            truth=truth_of(trial.source) if trial.phase == "practice" else None,
            done=self.done,
            total=self.rater.total,
            next=self.view(following) if same_block else None,
            paused=self.is_paused,
        )

    def advance(self) -> Row:
        """Returns the values that the rater's row is updated with."""
        end = self.answers[-1]["answered_at"] if self.done == self.rater.total else None
        return {"rater": self.rater.id, "now_done": self.done, "end": end}

    def _find_trial(self, trial_id: str) -> Any:
        for row in self.trials.values():
            if row.id == trial_id:
                return row
        raise RefusedError("unknown-trial")

    def _accept(self, row: Any, answer: Answer) -> None:
        if row.staircase is not None:
            self.times.append({"trial": row.id, "shown_ms": self.view(row).asked_ms})
            self.outcomes[row.staircase].append(is_correct(row.source, answer.said_real))
        identity = {"trial_id": row.id, "said_real": answer.said_real, "answered_at": utc_now()}
        self.answers.append({**identity, **answer.measured})
        self.done += 1


def _check_times(answer: Answer) -> None:
    """Refuses an answer to a timed image that came before the image was covered."""
    if answer.response_ms < answer.achieved_ms:
        raise RefusedError("impossible-time")


# Statements of the two calls that every trial makes, built once.
_RATERS = sa.select(raters, PAUSED.scalar_subquery().label("paused")).where(
    raters.c.token_sha256.in_(sa.bindparam("tokens", expanding=True))
)
# In one order, so that two servers on one database never wait for each other.
_RATERS_LOCKED = _RATERS.order_by(raters.c.id).with_for_update()
_OF_RATERS = trials.c.rater_id.in_(sa.bindparam("raters", expanding=True))
_TRIALS_AHEAD = (
    sa.select(trials)
    .join(raters, trials.c.rater_id == raters.c.id)
    .where(raters.c.id.in_(sa.bindparam("raters", expanding=True)))
    .where(trials.c.position.between(raters.c.done, raters.c.done + sa.bindparam("ahead")))
)
_TRIALS_BY_ID = sa.select(trials).where(
    _OF_RATERS, trials.c.id.in_(sa.bindparam("ids", expanding=True))
)
_IMAGES_LEFT = (
    sa.select(trials.c.stimulus)
    .where(trials.c.rater_id == sa.bindparam("rater"))
    .where(trials.c.block == sa.bindparam("in_block"))
    .where(trials.c.position >= sa.bindparam("position"))
    .order_by(trials.c.position)
)
_OUTCOMES = (
    sa.select(trials.c.rater_id, trials.c.staircase, trials.c.source, answers.c.said_real)
    .join(answers, answers.c.trial_id == trials.c.id)
    .where(_OF_RATERS, trials.c.staircase.is_not(None))
    .order_by(trials.c.rater_id, trials.c.position)
)
_INSERT_ANSWER = answers.insert()
_ADVANCE_RATER = (
    raters.update()
    .where(raters.c.id == sa.bindparam("rater"))
    .values(done=sa.bindparam("now_done"), finished_at=sa.bindparam("end"))
)
_SET_TIME = (
    trials.update()
    .where(trials.c.id == sa.bindparam("trial"))
    .values(asked_ms=sa.bindparam("shown_ms"))
)


def read_standings(
    connection: sa.Connection,
    rule: Staircase,
    tokens: Sequence[str],
    trial_ids: Sequence[str] = (),
    *,
    lock: bool = False,
) -> dict[str, Standing]:
    """Reads all that is needed to decide about answers, in two to four queries.

    Args:
        connection: in a transaction.
        rule: sets the times of staircases.
        tokens: one per answer.
        trial_ids: the trials that the answers name.
        lock: whether to keep other transactions from these raters.

    Returns:
        The raters' states by token.

    Raises:
        RefusedError: no rater has one of the tokens.
    """
    digests = {token: digest_of(token) for token in tokens}
    query = _RATERS_LOCKED if lock else _RATERS
    rows = connection.execute(query, {"tokens": list(digests.values())})
    by_digest = {row.token_sha256: Standing(row, rule, row.done) for row in rows}
    if len(by_digest) < len(digests):
        raise RefusedError("unknown-rater")
    by_id = {standing.rater.id: standing for standing in by_digest.values()}
    ahead = max(Counter(tokens).values())
    ids = _add_trials(connection, by_id, _TRIALS_AHEAD, ahead=ahead)
    if others := set(trial_ids) - ids:
        _add_trials(connection, by_id, _TRIALS_BY_ID, ids=list(others))
    _add_outcomes(connection, by_id)
    return {token: by_digest[digest] for token, digest in digests.items()}


def write_standings(connection: sa.Connection, standings: Iterable[Standing]) -> None:
    """Writes every accepted answer, with one statement per table."""
    advanced = [standing for standing in standings if standing.answers]
    changes = (
        (_INSERT_ANSWER, [row for standing in advanced for row in standing.answers]),
        (_SET_TIME, [row for standing in advanced for row in standing.times]),
        (_ADVANCE_RATER, [standing.advance() for standing in advanced]),
    )
    for statement, rows in changes:
        if rows:  # SQLAlchemy would take an empty list for one row of defaults
            connection.execute(statement, rows)


def read_images_left(connection: sa.Connection, trial: Any) -> tuple[str, ...]:
    """Returns the images from a trial to the end of its block; none without a trial."""
    if trial is None:
        return ()
    place = {"rater": trial.rater_id, "in_block": trial.block, "position": trial.position}
    return tuple(connection.execute(_IMAGES_LEFT, place).scalars())


def _add_trials(
    connection: sa.Connection, standings: Mapping[int, Standing], query: sa.Select[Any], **by: Any
) -> set[str]:
    """Adds these raters' trials that `query` selects; returns their ids."""
    rows = connection.execute(query, {"raters": list(standings), **by}).all()
    for row in rows:
        standings[row.rater_id].trials[row.position] = row
    return {row.id for row in rows}


def _add_outcomes(connection: sa.Connection, standings: Mapping[int, Standing]) -> None:
    on_staircases = [
        rater
        for rater, standing in standings.items()
        if any(row.staircase is not None for row in standing.trials.values())
    ]
    if on_staircases:
        for row in connection.execute(_OUTCOMES, {"raters": on_staircases}):
            correct = is_correct(row.source, row.said_real)
            standings[row.rater_id].outcomes[row.staircase].append(correct)
