"""A set on the annotators' desk: its rows, what was done to each, and what to do next."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from rapidfuzz.distance import Levenshtein

from hinlap.core.errors import InputError, UserError
from hinlap.core.rows import Origin, Row
from hinlap.data.annotation.checks import Check, Kind, check_fields
from hinlap.data.annotation.log import Action, AnnotationLog, Entry, Fields
from hinlap.data.manifest import file_sha256
from hinlap.data.near_index import NearIndex

CATEGORY = "category"
FLAG = "flagged"
"""The label that holds the reason of a flag in the finished set."""
_NEW_KEY = re.compile(r"new-[0-9a-f]{12}")
_NEAREST = 3
_INDEXED_AT_ONCE = 200
_TITLE_LETTERS = 90
_LONGEST_TEXT = 1_000_000

P = ParamSpec("P")
T = TypeVar("T")


class Status(enum.StrEnum):
    TODO = "todo"
    DONE = "done"
    SKIPPED = "skipped"
    FLAGGED = "flagged"


_STATUS = {
    Action.WRITTEN: Status.DONE,
    Action.CORRECTED: Status.DONE,
    Action.ACCEPTED: Status.DONE,
    Action.KEPT: Status.DONE,
    Action.SKIPPED: Status.SKIPPED,
    Action.FLAGGED: Status.FLAGGED,
}


class ConflictError(UserError):
    """Another saved the row since it was read. entry: what they saved."""

    def __init__(self, row: str, entry: Entry) -> None:
        super().__init__(
            f"{entry.annotator or 'another'} saved this row meanwhile ({entry.action})",
            where=row,
            hint="look at it, then save again to put yours in its place",
        )
        self.entry = entry


@dataclass(frozen=True, slots=True)
class Work:
    """What an annotator hands in with a row.

    version:      of the row as it was read. seconds: of work. open_seconds: since it was opened.
    draft:        shown beside; None for nothing. from_draft: the answer began as a copy of it.
    """

    annotator: str
    version: int
    seconds: float
    open_seconds: float
    draft: str | None = None
    draft_by: str = ""
    from_draft: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A row as a list shows it. position: from 0."""

    key: str
    position: int
    status: Status
    title: str


@dataclass(frozen=True, slots=True)
class View:
    """A row as it stands now. last: what was last done to it, None for nothing."""

    key: str
    position: int
    row: Row
    fields: Fields
    status: Status
    version: int
    last: Entry | None


@dataclass
class _Held:
    """base: the row in the file. history: entries on it that were not taken back."""

    base: Row | None
    history: list[Entry] = field(default_factory=list)
    version: int = 0
    folded: str = ""


def _in_turn(method: Callable[P, T]) -> Callable[P, T]:
    """One thread at a time."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with args[0]._lock:  # type: ignore[attr-defined]
            return method(*args, **kwargs)

    return call


class Desk:
    """The rows of one file with the log of what was done to them, for any number of annotators.

    Entries written before the file was last rewritten are in the file: they tell only what was
    done. Later ones are laid over its rows. Safe between threads, and between processes by the
    log's lock. now: the clock, in UTC.
    """

    def __init__(
        self,
        path: Path,
        rows: Sequence[Row],
        log: AnnotationLog,
        *,
        digest: str,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self.path = path
        self._log = log
        self._now = now
        self._lock = threading.RLock()
        self._held: dict[str, _Held] = {}
        self._order: list[str] = []
        self._near = NearIndex()
        self._indexing = self._indexed = False
        self._known_digests = {digest}
        self.entries: list[Entry] = []
        self._floor = self._finished = 0
        for row in rows:
            self._add(_key(row.id, self._held), _Held(row))
        seen = log.read_new()
        finished = (e.number for e in seen if e.action is Action.FINISHED)
        self._floor = self._finished = max(finished, default=0)
        self.orphans = sum(self._apply(entry) for entry in seen)

    # ------------------------------------------------------------------ reading

    @_in_turn
    def view(self, key: str) -> View:
        """Raises InputError for a row that is not there."""
        self._catch_up()
        return self._view(key)

    @_in_turn
    def holds(self, key: str) -> bool:
        self._catch_up()
        return key in self._held

    @_in_turn
    def counts(self) -> dict[Status, int]:
        self._catch_up()
        found = Counter(_status(self._held[key]) for key in self._order)
        return {status: found[status] for status in Status}

    @_in_turn
    def changed_since(self, number: int) -> tuple[int, list[Entry]]:
        """The log's last number, and the entries after ``number``."""
        self._catch_up()
        return len(self.entries), self.entries[max(0, number) :]

    @_in_turn
    def places(
        self, status: Status | None, query: str, *, start: int = 0, limit: int = 100
    ) -> tuple[int, list[Place]]:
        """How many rows have this status (None: any) and hold the query in any case; and those
        from the ``start``-th on."""
        found = [i for i in range(len(self._order)) if self._fits(i, status, query)]
        return len(found), [self._place(i) for i in found[start : start + limit]]

    @_in_turn
    def step(self, start: int, by: int, status: Status | None = None, query: str = "") -> str:
        """Key of the nearest fitting row from position ``start`` on, forward (by=1) or back (-1),
        and round the end; "" where none fits."""
        n = len(self._order)
        for offset in range(n):
            position = (start + by * offset) % n
            if self._fits(position, status, query):
                return self._order[position]
        return ""

    @_in_turn
    def categories(self) -> list[str]:
        """Those of the rows, the most frequent first."""
        found = Counter(self._fields(self._held[key]).category for key in self._order)
        return [category for category, _ in found.most_common() if category]

    @_in_turn
    def check(self, key: str, fields: Fields, draft: str | None) -> list[Check]:
        """All hints on a row as it is being written."""
        return check_fields(fields, draft) + [
            Check(Kind.NEAR_COPY, near, similarity)
            for near, similarity in self._nearest(key, fields)
        ]

    def index(self) -> None:
        """Makes ready to find near copies; until then `check` leaves them out. Others may work
        meanwhile: a set of 50,000 rows takes some seconds."""
        with self._lock:
            self._indexing, keys = True, list(self._order)
        for start in range(0, len(keys), _INDEXED_AT_ONCE):
            with self._lock:
                for key in keys[start : start + _INDEXED_AT_ONCE]:
                    if key in self._held:
                        self._near.put(key, _content(self._fields(self._held[key])))
        with self._lock:
            self._indexed = True

    # ------------------------------------------------------------------ writing

    @_in_turn
    def save(self, key: str, fields: Fields, work: Work) -> Entry:
        """A row's new text. A key `new-…` (12 hex digits) that is not there makes a row.

        Handed in twice (an answer that was lost), it is saved once. Raises ConflictError where
        another saved the row since ``work.version``, InputError for texts that no row can have.
        """
        fields = _clean(fields)
        asked = fields.instruction + fields.input
        for text, name in ((asked, "instruction"), (fields.output, "answer")):
            if not text.strip():
                raise InputError(f"the {name} is empty", hint="write it, or skip or flag the row")
        with self._log.locked():
            self._catch_up()
            if key not in self._held and not _NEW_KEY.fullmatch(key):
                raise _no_row(key)
            held = self._held.get(key) or _Held(None)
            last = held.history[-1] if held.history else None
            if last and last.fields == fields and last.annotator == work.annotator:
                return last
            self._check_version(key, held, work.version)
            return self._append(
                self._action(held, fields, work),
                key,
                work,
                fields=fields,
                new=held.base is None,
                draft_distance=None
                if work.draft is None
                else Levenshtein.distance(work.draft, fields.output),
            )

    @_in_turn
    def skip(self, key: str, work: Work) -> Entry:
        """Leaves a row for later. Raises as `save`."""
        with self._log.locked():
            self._catch_up()
            self._check_version(key, self._get(key), work.version)
            return self._append(Action.SKIPPED, key, work)

    @_in_turn
    def flag(self, key: str, reason: str, work: Work) -> Entry:
        """Marks a row as not fit to be used. Raises as `save`, and without a reason."""
        if not reason.strip():
            raise InputError("a flag needs a reason", where=key, hint="say what is wrong")
        with self._log.locked():
            self._catch_up()
            self._check_version(key, self._get(key), work.version)
            return self._append(Action.FLAGGED, key, work, reason=_storable(reason.strip()))

    @_in_turn
    def undo(self, annotator: str) -> Entry:
        """Takes back the annotator's last deed, then the one before. The text that stood before
        stands again; a new row goes. Returns the entry taken back.

        Raises UserError when there is none since the set was rewritten, ConflictError where
        another has saved the row since.
        """
        with self._log.locked():
            self._catch_up()
            mine = [
                entry
                for held in self._held.values()
                for entry in held.history
                if entry.annotator == annotator and entry.number > self._floor
            ]
            if not mine:
                raise UserError(
                    "there is nothing to undo", hint="a row can still be corrected by hand"
                )
            target = max(mine, key=lambda entry: entry.number)
            last = self._held[target.row].history[-1]
            if last is not target:
                raise ConflictError(target.row, last)
            stamp = self._stamp()
            self._write(
                Entry(
                    self._log.next_number,
                    Action.UNDONE,
                    target.row,
                    annotator,
                    stamp,
                    stamp,
                    undoes=target.number,
                )
            )
            return target

    @_in_turn
    def finish(self, write: Callable[[list[Row]], None], annotator: str) -> bool:
        """Has the set rewritten with all that was done, and says so in the log; False where
        nothing was done since the last time.

        write: puts these rows into the file, whole or not at all. Raises InputError when the file
        was changed by others meanwhile: then it is left alone.
        """
        with self._log.locked():
            self._catch_up()
            if not any(entry.number > self._finished for entry in self.entries):
                return False
            if self.path.exists() and file_digest(self.path) not in self._known_digests:
                raise InputError(
                    "the file was changed while it was annotated, so it was not rewritten",
                    where=str(self.path),
                    hint="nothing is lost: look at it, then run the same command with --finish",
                )
            write([self._row(self._held[key]) for key in self._order])
            stamp = self._stamp()
            self._write(
                Entry(
                    self._log.next_number,
                    Action.FINISHED,
                    "",
                    annotator,
                    stamp,
                    stamp,
                    digest=file_digest(self.path),
                )
            )
            return True

    def close(self) -> None:
        self._log.close()

    # ------------------------------------------------------------------ within

    def _append(
        self,
        action: Action,
        key: str,
        work: Work,
        *,
        fields: Fields | None = None,
        new: bool = False,
        draft_distance: int | None = None,
        reason: str = "",
    ) -> Entry:
        ended = self._now()
        entry = Entry(
            self._log.next_number,
            action,
            key,
            work.annotator,
            (ended - datetime.timedelta(seconds=work.open_seconds)).isoformat(
                timespec="milliseconds"
            ),
            ended.isoformat(timespec="milliseconds"),
            round(work.seconds, 1),
            fields,
            new,
            None if work.draft is None else _storable(work.draft),
            work.draft_by,
            draft_distance,
            reason,
        )
        self._write(entry)
        return entry

    def _write(self, entry: Entry) -> None:
        self._log.append(entry)
        self._catch_up()

    def _catch_up(self) -> None:
        for entry in self._log.read_new():
            self._apply(entry)

    def _apply(self, entry: Entry) -> bool:
        """Whether it concerns a row that is not there any more."""
        self.entries.append(entry)
        if entry.action is Action.FINISHED:
            self._finished = entry.number
            self._known_digests.add(entry.digest)
            return False
        if entry.row not in self._held:
            if not entry.new or entry.number <= self._floor:
                return True
            self._add(entry.row, _Held(None))
        held = self._held[entry.row]
        if entry.action is Action.UNDONE:
            held.history = [each for each in held.history if each.number != entry.undoes]
        else:
            held.history.append(entry)
        held.version = entry.number
        if held.base is None and not any(each.fields for each in held.history):
            self._drop(entry.row)
        else:
            self._refresh(entry.row)
        return False

    def _add(self, key: str, held: _Held) -> None:
        self._held[key] = held
        self._order.append(key)
        if held.base is not None:
            self._refresh(key)

    def _drop(self, key: str) -> None:
        del self._held[key]
        self._order.remove(key)
        self._near.remove(key)

    def _refresh(self, key: str) -> None:
        held = self._held[key]
        held.folded = "\n".join((key, *dataclasses.astuple(self._fields(held)))).casefold()
        if self._indexing:
            self._near.put(key, _content(self._fields(held)))

    def _get(self, key: str) -> _Held:
        if key not in self._held:
            raise _no_row(key)
        return self._held[key]

    def _check_version(self, key: str, held: _Held, version: int) -> None:
        if held.version != version:
            raise ConflictError(key, self.entries[held.version - 1])

    def _action(self, held: _Held, fields: Fields, work: Work) -> Action:
        """By what the file says and what is said now, however it was typed."""
        done = _content_entry(held, self._floor)
        before = _fields_of(held.base) if held.base else Fields("", "", "")
        if fields == before:
            return Action.KEPT
        if done is not None and done.fields == fields:
            return done.action
        same_question = (fields.instruction, fields.input) == (before.instruction, before.input)
        if fields.output == work.draft and (same_question or not before.output):
            return Action.ACCEPTED
        accepted = done is not None and done.action is not Action.WRITTEN
        corrects = before.output or work.from_draft or accepted
        return Action.CORRECTED if corrects else Action.WRITTEN

    def _fields(self, held: _Held) -> Fields:
        done = _content_entry(held, self._floor)
        if done is not None and done.fields is not None:
            return done.fields
        assert held.base is not None
        return _fields_of(held.base)

    def _row(self, held: _Held) -> Row:
        """As the finished set has it."""
        fields, done = self._fields(held), _content_entry(held, self._floor)
        last = held.history[-1] if held.history else None
        row = held.base or Row(id=last.row if last else "", instruction="", output="")
        if last is None:
            return row
        labels = dict(row.labels)
        if fields.category:
            labels[CATEGORY] = fields.category
        elif isinstance(labels.get(CATEGORY), str):
            del labels[CATEGORY]
        if any(entry.action is Action.FLAGGED for entry in held.history):
            labels.pop(FLAG, None)
        if last.action is Action.FLAGGED:
            labels[FLAG] = last.reason
        if done is None or done.action is Action.KEPT:
            return dataclasses.replace(row, labels=labels)
        return dataclasses.replace(
            row,
            instruction=fields.instruction,
            input=fields.input,
            output=fields.output,
            labels=labels,
            origin=_ORIGIN[done.action],
        )

    def _view(self, key: str) -> View:
        held = self._get(key)
        return View(
            key,
            self._order.index(key),
            self._row(held),
            self._fields(held),
            _status(held),
            held.version,
            held.history[-1] if held.history else None,
        )

    def _place(self, position: int) -> Place:
        key = self._order[position]
        held = self._held[key]
        fields = self._fields(held)
        title = " ".join((fields.instruction or fields.input or fields.output)[:500].split())
        return Place(key, position, _status(held), title[:_TITLE_LETTERS])

    def _fits(self, position: int, status: Status | None, query: str) -> bool:
        held = self._held[self._order[position]]
        if status is not None and _status(held) is not status:
            return False
        return not query or query.casefold() in held.folded

    def _nearest(self, key: str, fields: Fields) -> list[tuple[str, float]]:
        if not self._indexed or not fields.instruction.strip() or not fields.output.strip():
            return []  # an instruction without its answer is near many
        return self._near.near(_content(fields), but=key)[:_NEAREST]

    def _stamp(self) -> str:
        return self._now().isoformat(timespec="milliseconds")


_ORIGIN = {
    Action.WRITTEN: Origin.HUMAN,
    Action.CORRECTED: Origin.HUMAN,
    Action.ACCEPTED: Origin.MACHINE,
}


def file_digest(path: Path) -> str:
    """SHA-256 of a file; "" where there is none."""
    return file_sha256(path) if path.exists() else ""


def _key(identity: str, taken: dict[str, _Held]) -> str:
    """A row's id; where an earlier row has it too (copies), with a number."""
    key, n = identity, 1
    while key in taken:
        n += 1
        key = f"{identity}#{n}"
    return key


def _status(held: _Held) -> Status:
    return _STATUS[held.history[-1].action] if held.history else Status.TODO


def _content_entry(held: _Held, floor: int) -> Entry | None:
    """The last that changed the text since the file was rewritten."""
    for entry in reversed(held.history):
        if entry.fields is not None and entry.number > floor:
            return entry
    return None


def _fields_of(row: Row) -> Fields:
    category = row.labels.get(CATEGORY)
    instruction, given, output = map(_storable, (row.instruction, row.input, row.output))
    return Fields(instruction, given, output, category if isinstance(category, str) else "")


def _content(fields: Fields) -> str:
    return f"{fields.instruction}\n{fields.input}\n{fields.output}"


def _clean(fields: Fields) -> Fields:
    texts = dataclasses.astuple(fields)
    if any(len(text) > _LONGEST_TEXT for text in texts):
        raise InputError(
            f"a text of over {_LONGEST_TEXT:,} characters", hint="no model reads so much: split it"
        )
    instruction, given, output, category = map(_storable, texts)
    return Fields(instruction, given, output, " ".join(category.split()))


def _storable(text: str) -> str:
    """With \\n alone between lines; halves of characters, which no file can hold, replaced."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode("utf-8")


def _no_row(key: str) -> InputError:
    return InputError(f"there is no row {key!r}", hint="it may have been taken back: go to another")
