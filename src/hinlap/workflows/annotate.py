"""Writing and correcting a set by hand: opening it, drafts beside it, putting it back."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.core.messages import Engine
from hinlap.core.progress import Progress
from hinlap.core.rows import BadRow, Row
from hinlap.core.version import __version__
from hinlap.data.annotation.desk import Desk, Status, file_digest
from hinlap.data.annotation.log import AnnotationLog, Fields, log_path
from hinlap.data.annotation.report import annotation_report
from hinlap.data.containers import read_records
from hinlap.data.manifest import Manifest, Parent, read_manifest, write_manifest
from hinlap.data.row_files import ROW_FILES, choose_format, read_rows, write_rows
from hinlap.engines.catalogue import is_address
from hinlap.routes.service import is_own_machine
from hinlap.store.store import Store
from hinlap.workflows.bench import STORE
from hinlap.workflows.data_engine import Writer, open_writer
from hinlap.workflows.drafts import Draft, Drafter, draft_prompt

OWN = "hinlap"
_FEW_LETTERS = 60


@dataclass(frozen=True)
class Annotating:
    """A set being annotated. drafter: None without a model."""

    desk: Desk
    drafter: Drafter | None

    def draft(self, key: str, fields: Fields, *, again: bool = False) -> Draft | None:
        """The model's answer to a row as it is being written, as far as it is there; None where
        there is nothing to answer. It is asked for, and after it that of the next row to do, so
        that nobody waits for it."""
        if self.drafter is None:
            return None
        prompts, position, row = [], -1, Row(id=key, instruction="", output="")
        if self.desk.holds(key):
            view = self.desk.view(key)
            position, row = view.position, view.row
        now = dataclasses.replace(row, instruction=fields.instruction, input=fields.input)
        if now.asked().strip():
            prompts.append(draft_prompt(now))
        ahead = self.desk.step(position + 1, 1, Status.TODO)
        if ahead and ahead != key:
            prompts.append(draft_prompt(self.desk.view(ahead).row))
        self.drafter.want(prompts, again=again)
        return self.drafter.of(draft_prompt(now)) if now.asked().strip() else None

    def finish(self, annotator: str) -> bool:
        """Rewrites the set with what was done; False where there was nothing to write."""

        def write(rows: list[Row]) -> None:
            counts = annotation_report(self.desk.entries).rows
            done = {action.value: number for action, number in counts.items() if number}
            _write(self.desk.path, rows, done)

        return self.desk.finish(write, annotator)


@contextlib.contextmanager
def annotating(
    path: Path,
    progress: Progress,
    *,
    writer: Writer | None = None,
    new: bool = False,
    max_tokens: int = 512,
    store: Path = STORE,
) -> Iterator[Annotating]:
    """Opens a set, its log and the model; closes them at the end. The set is not rewritten.

    new: begins an empty set where there is no file. Raises InputError for a file that is not
    there, has a name that no set can be written to, or holds records that cannot be read:
    rewriting it would lose them; and as `open_writer`.
    """
    with contextlib.ExitStack() as cleanup:
        desk = _open_desk(path, new, progress)
        cleanup.callback(desk.close)
        drafter = None
        if writer is not None:
            engine = cleanup.enter_context(open_writer(writer, progress)).engine
            leaves = is_address(writer.model) and not is_own_machine(writer.model)
            if leaves:
                progress.say(f"rows are sent to {writer.model} for drafts")
            drafter = _drafter(engine, Store(store), max_tokens, leaves, cleanup)
        yield Annotating(desk, drafter)


def _drafter(
    engine: Engine, store: Store, max_tokens: int, leaves: bool, cleanup: contextlib.ExitStack
) -> Drafter:
    drafter = Drafter(engine, store, max_tokens=max_tokens, leaves_machine=leaves)

    def close() -> None:
        if drafter.close():  # else its thread may still write, until the process ends
            store.close()

    cleanup.callback(close)
    return drafter


def _open_desk(path: Path, new: bool, progress: Progress) -> Desk:
    log_file = log_path(path)
    if not path.parent.is_dir():
        raise InputError("there is no such folder", where=str(path.parent), hint="make it first")
    if path.is_dir():
        raise InputError("it is a folder, not a file", where=str(path), hint="name a file in it")
    if not path.exists() and not new and not log_file.exists():
        raise InputError(
            "there is no such file",
            where=str(path),
            hint="check the name; --new begins an empty set there",
        )
    if not path.name.lower().endswith(ROW_FILES):
        raise InputError(
            f"a set that is annotated must end in {', '.join(ROW_FILES)}: it is written again",
            where=str(path),
            hint=f"hinlap data import {path} --out {path.with_suffix('.jsonl')}",
        )
    digest = file_digest(path)
    begins = not path.exists() or (not path.stat().st_size and (new or log_file.exists()))
    rows = [] if begins else _rows(path, progress)
    log = AnnotationLog(log_file)
    try:
        desk = Desk(path, rows, log, digest=digest)
    except BaseException:
        log.close()
        raise
    if log.repaired:
        progress.say(
            f"{log_file}: its last line was cut by a crash before it was called saved, and is "
            f"taken out: {log.repaired[:_FEW_LETTERS]!r}"
        )
    if desk.orphans:
        progress.say(
            f"{log_file}: {counted(desk.orphans, 'entry', 'entries')} of rows that are no longer "
            f"in {path.name}: left out"
        )
    return desk


def _rows(path: Path, progress: Progress) -> list[Row]:
    good: list[Row] = []
    bad: list[BadRow] = []
    for row in read_rows(path):
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            good.append(row)
    if bad:
        raise InputError(
            f"{counted(len(bad), 'record')} of {len(bad) + len(good):,} cannot be read, and would "
            f"be lost when the set is rewritten: {bad[0].reason}",
            where=bad[0].where,
            hint=f"import the good ones first: hinlap data import {path} --out clean.jsonl",
        )
    layout, _ = choose_format(read_records(path), path, "", {})
    if layout.name != OWN:
        progress.say(
            f"{path} is laid out as {layout.name}; it will be written in Hinlap's own layout, "
            "every column kept"
        )
    return good


def _write(path: Path, rows: list[Row], counts: dict[str, int]) -> None:
    """The set, then its manifest: killed between the two, the next finish does both again."""
    before, old = read_manifest(path), file_digest(path)
    write_rows(path, rows)
    new = file_digest(path)
    manifest = before or Manifest(new, len(rows))
    parents = manifest.parents
    if old and old != new:
        parents = (Parent(path.name, old, manifest.licence, manifest.rows if before else 0),)
    write_manifest(
        path,
        dataclasses.replace(
            manifest,
            sha256=new,
            rows=len(rows),
            parents=parents,
            command=f"hinlap data annotate {path.name}",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            version=__version__,
            counts=counts,
        ),
    )
