"""Opening, migrating, reading and writing the project's store."""

from __future__ import annotations

import datetime
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from hinlap.core.errors import StorageError
from hinlap.core.messages import Completion, Finish
from hinlap.store.tables import (
    AnswerRow,
    BenchRow,
    FigureRow,
    ItemRow,
    RatingRow,
    RunRow,
    WeightRow,
)

MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE = 30  # seconds that one process waits for another


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One step's outcome as the store keeps it."""

    route: str
    item: str
    step: str
    status: str
    output: str
    error: str


@dataclass(frozen=True, slots=True)
class FigureRecord:
    """One number as the store keeps it; value None means undefined."""

    route: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    signature: str


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """A finished benchmark run; content: all of it, as JSON text."""

    key: str
    benchmark: str
    model: str
    made_at: str
    version: str
    content: str


class Store:
    """One SQLite file. Opening creates and migrates it; every write is committed at once.

    Raises StorageError with file and remedy for a full disk, a file that is not a store, a
    store of a newer Hinlap, or a folder that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _storage_error(path, error) from error
        self._engine = sqlalchemy.create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _set_pragmas)
        try:
            with self._guarded():
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def answers(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The cached answers among ``keys``, each marked ``cached``."""
        found: dict[str, Completion] = {}
        with self._session() as session:
            for part in _chunks(keys):
                for row in session.scalars(select(AnswerRow).where(AnswerRow.key.in_(part))):
                    found[row.key] = Completion(
                        text=row.text,
                        finish=Finish(row.finish),
                        input_tokens=row.input_tokens,
                        output_tokens=row.output_tokens,
                        seconds=row.seconds,
                        batch_size=row.batch_size,
                        cached=True,
                        cached_input_tokens=row.cached_input_tokens,
                        error=row.error,
                    )
        return found

    def keep_answers(self, model: str, answers: Iterable[tuple[str, Completion]]) -> None:
        """Writes answers durably; one already there stays as it is."""
        rows = [
            {
                "key": key,
                "model": model,
                "text": answer.text,
                "finish": answer.finish.value,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "cached_input_tokens": answer.cached_input_tokens,
                "seconds": answer.seconds,
                "batch_size": answer.batch_size,
                "error": answer.error,
                "made_at": utc_now(),
            }
            for key, answer in answers
        ]
        self._insert_new(AnswerRow, rows)

    def weights(self, keys: Sequence[str]) -> dict[str, tuple[float, int]]:
        """Cached log-likelihoods (nats) and token counts among ``keys``."""
        found: dict[str, tuple[float, int]] = {}
        with self._session() as session:
            for part in _chunks(keys):
                for row in session.scalars(select(WeightRow).where(WeightRow.key.in_(part))):
                    found[row.key] = (row.logprob, row.tokens)
        return found

    def keep_weights(self, weights: Iterable[tuple[str, float, int]]) -> None:
        rows = [{"key": k, "logprob": lp, "tokens": n} for k, lp, n in weights]
        self._insert_new(WeightRow, rows)

    def ratings(self, keys: Sequence[str]) -> dict[str, float]:
        """Cached ratings among ``keys``."""
        found: dict[str, float] = {}
        with self._session() as session:
            for part in _chunks(keys):
                for row in session.scalars(select(RatingRow).where(RatingRow.key.in_(part))):
                    found[row.key] = row.value
        return found

    def keep_ratings(self, ratings: Iterable[tuple[str, float]]) -> None:
        self._insert_new(RatingRow, [{"key": key, "value": value} for key, value in ratings])

    def keep_bench(self, key: str, benchmark: str, model: str, version: str, content: str) -> None:
        """Writes a finished benchmark run in the place of one of the same key."""
        row = BenchRow(
            key=key,
            benchmark=benchmark,
            model=model,
            made_at=utc_now(),
            version=version,
            content=content,
        )
        with self._session() as session:
            session.merge(row)
            session.commit()

    def benches(self) -> list[BenchRecord]:
        """All finished benchmark runs, oldest first."""
        with self._session() as session:
            rows = session.scalars(select(BenchRow).order_by(BenchRow.made_at, BenchRow.key))
            return [
                BenchRecord(r.key, r.benchmark, r.model, r.made_at, r.version, r.content)
                for r in rows
            ]

    def start_run(self, app: str, app_digest: str, command: str, version: str) -> int:
        """A new run's number."""
        with self._session() as session:
            row = RunRow(
                app=app,
                app_digest=app_digest,
                command=command,
                version=version,
                started_at=utc_now(),
                finished_at=None,
            )
            session.add(row)
            session.commit()
            return row.id

    def finish_run(
        self, run_id: int, items: Iterable[ItemRecord], figures: Iterable[FigureRecord]
    ) -> None:
        """All outcomes of a run and its end, in one transaction."""
        with self._session() as session:
            for item in items:
                session.add(
                    ItemRow(
                        run_id=run_id,
                        route=item.route,
                        item=item.item,
                        step=item.step,
                        status=item.status,
                        output=item.output,
                        error=item.error,
                    )
                )
            for figure in figures:
                session.add(
                    FigureRow(
                        run_id=run_id,
                        route=figure.route,
                        name=figure.name,
                        value=figure.value,
                        low=figure.low,
                        high=figure.high,
                        n=figure.n,
                        signature=figure.signature,
                    )
                )
            run = session.get_one(RunRow, run_id)
            run.finished_at = utc_now()
            session.commit()

    def figures(self, run_id: int) -> list[FigureRecord]:
        with self._session() as session:
            rows = session.scalars(
                select(FigureRow).where(FigureRow.run_id == run_id).order_by(FigureRow.id)
            )
            return [
                FigureRecord(r.route, r.name, r.value, r.low, r.high, r.n, r.signature)
                for r in rows
            ]

    def _insert_new(
        self, table: type[AnswerRow | WeightRow | RatingRow], rows: list[dict[str, Any]]
    ) -> None:
        if not rows:
            return
        with self._session() as session:
            session.execute(insert(table).on_conflict_do_nothing(), rows)
            session.commit()

    def _migrate(self) -> None:
        # imported here: Alembic is only needed when a store is opened
        from alembic import command
        from alembic.config import Config
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        head = scripts.get_current_head()
        # one transaction that takes the write lock first: two processes may open a new store
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            present = MigrationContext.configure(connection).get_current_revision()
            if present == head:
                connection.rollback()
                return
            known = {script.revision for script in scripts.walk_revisions()}
            if present is not None and present not in known:
                raise StorageError(
                    f"the store was written by a newer Hinlap (its version is {present})",
                    where=str(self.path),
                    hint="upgrade with `pip install -U hinlap`, or move the file away",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._guarded(), Session(self._engine) as session:
            yield session

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise _storage_error(self.path, error) from error


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    # WAL: readers never wait for the writer; NORMAL keeps every commit through SIGKILL
    connection.execute(f"PRAGMA busy_timeout = {1000 * _PATIENCE}")
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # of a new file: SQLite does not wait where two who read it both want to write it
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _storage_error(path: Path, error: Exception) -> StorageError:
    reason = str(getattr(error, "orig", None) or error)
    hint = "look at the file and the folder's permissions"
    if "full" in reason or "No space" in reason or "disk I/O" in reason:
        hint = "the disk is full: free some space and run the same command again; nothing is lost"
    elif "not a database" in reason or "malformed" in reason:
        hint = "the file is not a Hinlap store: move it away and run the same command again"
    return StorageError(f"the store cannot be used: {reason}", where=str(path), hint=hint)


def _chunks(keys: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
