"""A training set through all gates: what they find, as JSON, and the cleaned set."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress
from hinlap.core.rows import BadRow, Row
from hinlap.core.version import __version__
from hinlap.data.formats.record import line_of
from hinlap.data.gates.gate import Finding, GateReport
from hinlap.data.gates.lengths import Tokens
from hinlap.data.gates.overlap import HeldOut
from hinlap.data.gates.personal import masked, masked_row
from hinlap.data.gates.table import GATES, Given
from hinlap.data.manifest import Manifest, file_sha256, parent_of, read_manifest, write_manifest
from hinlap.data.row_files import check_row_file, read_rows, write_rows
from hinlap.data.whole_file import whole_file, write_whole
from hinlap.workflows.held_out import held_out_texts

BAD_ROWS_KEPT = 100
_LONGEST_DETAIL = 300


@dataclass(frozen=True)
class CheckOptions:
    """against: files of rows, apps, folders of benchmarks. model: whose tokens are counted; "" for
    none. remove, keep: gates (``answers``) or kinds of one (``answers:cut``) whose rows ``--fix``
    takes out or lets be, against the gates' own choice; keep wins."""

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    against: tuple[Path, ...] = ()
    model: str = ""
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """bad: the first records that are no rows; bad_count: of all. tests: test items by set."""

    train: Path
    rows: Sequence[Row]
    bad: tuple[BadRow, ...]
    bad_count: int
    reports: tuple[GateReport, ...]
    tests: Mapping[str, int]
    model: str

    def removed(self) -> dict[int, list[tuple[str, Finding]]]:
        """By row that would be taken out: gates and findings that do it, in the gates' order."""
        found: dict[int, list[tuple[str, Finding]]] = {}
        for report in self.reports:
            for finding in report.findings:
                if finding.removes:
                    found.setdefault(finding.row, []).append((report.name, finding))
        return dict(sorted(found.items()))

    def failing(self, names: Sequence[str]) -> list[str]:
        """Those of the gates or kinds named that found something."""
        found = {report.name: report for report in self.reports}
        return [
            name
            for name in names
            if any(found[gate].counts[kind] for gate, kind in kinds_named([name], "--fail-on"))
        ]


def check_data(train: Path, options: CheckOptions, progress: Progress) -> Check:
    """Reads the set and puts it through every gate.

    Raises UserError for a gate that is not there, InputError for files that cannot be read,
    ModelError for the model; all before the gates begin.
    """
    remove = kinds_named(options.remove, "--remove")
    keep = kinds_named(options.keep, "--keep")
    tests: list[HeldOut] = []
    for path in options.against:
        tests += held_out_texts(path, progress)
    rows: list[Row] = []
    bad: list[BadRow] = []
    bad_count = 0
    for each in read_rows(train, format=options.format, columns=options.columns or None):
        if isinstance(each, Row):
            rows.append(each)
        else:
            bad_count += 1
            if len(bad) < BAD_ROWS_KEPT:
                bad.append(each)
    if not rows:
        first = f": {bad[0].where}: {bad[0].reason}" if bad else ""
        raise InputError(f"there is no row to check{first}", where=str(train))
    given = Given(rows, tests, _tokens(rows, options.model, progress) if options.model else None)
    progress.start("gates", len(GATES))
    reports = []
    for gate in GATES.values():
        report = gate.look(given)
        findings = tuple(
            replace(
                finding,
                removes=(gate.name, finding.kind) not in keep
                and (finding.removes or (gate.name, finding.kind) in remove),
            )
            for finding in report.findings
        )
        reports.append(replace(report, findings=findings))
        progress.advance(note=gate.name)
    progress.finish()
    items = Counter(name for name, _ in {(test.test_set, test.item) for test in tests})
    return Check(train, rows, tuple(bad), bad_count, tuple(reports), dict(items), options.model)


def kinds_named(names: Sequence[str], option: str) -> set[tuple[str, str]]:
    """(gate, kind) of ``gate`` or ``gate:kind``. Raises UserError with what there is."""
    found = set()
    for name in names:
        gate, colon, kind = name.partition(":")
        if gate not in GATES:
            raise UserError(f"no gate {gate!r}", where=option, hint=f"one of: {', '.join(GATES)}")
        kinds = GATES[gate].kinds
        if colon and kind not in kinds:
            raise UserError(
                f"the gate {gate} has no kind {kind!r}", where=option,
                hint=f"one of: {', '.join(f'{gate}:{each}' for each in kinds)}",
            )  # fmt: skip
        found |= {(gate, each) for each in ([kind] if colon else kinds)}
    return found


def _tokens(rows: Sequence[Row], model: str, progress: Progress) -> Tokens:
    """Of each row as training takes it (its longest sequence; 0 where no answer teaches)."""
    from hinlap.engines.pool import open_local
    from hinlap.tuning.lessons import encode_lessons, lesson_of

    engine = open_local(model, progress)
    counts = []
    progress.start(f"tokens of {model}", len(rows))
    for row in rows:
        taken = encode_lessons([lesson_of(row)], engine.tokenizer, sys.maxsize).taken
        counts.append(max(map(len, taken), default=0))
        progress.advance()
    progress.finish()
    return Tokens(model, engine.context_length, counts)


def write_json(check: Check, path: Path) -> None:
    """Every count and finding; personal data in it is masked. Raises as ``whole_file``."""
    content = as_json(check)
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


def as_json(check: Check) -> dict[str, Any]:
    return {
        "train": str(check.train),
        "rows": len(check.rows),
        "bad_rows": check.bad_count,
        "bad": [{"where": bad.where, "reason": bad.reason} for bad in check.bad],
        "tests": dict(check.tests),
        "model": check.model or None,
        "removed_by_fix": len(check.removed()),
        "version": __version__,
        "gates": [
            {
                "gate": report.name,
                "title": report.title,
                "rows": report.rows,
                "counts": dict(report.counts),
                "notes": list(report.notes),
                "figures": [
                    {"title": f.title, "labels": f.labels, "counts": f.counts}
                    for f in report.figures
                ],
                "findings": [_finding(check, finding) for finding in report.findings],
            }
            for report in check.reports
        ],
    }


def _finding(check: Check, finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": masked(check.rows[finding.row].id),
        "row": finding.row + 1,
        "kind": finding.kind,
        "detail": shown_detail(finding),
        "removes": finding.removes,
    }
    if finding.other is not None:
        found |= {"other_id": masked(check.rows[finding.other].id), "other_row": finding.other + 1}
    return found


def shown_detail(finding: Finding) -> str:
    """On one line, without personal data."""
    return masked(" ".join(finding.detail.split()))[:_LONGEST_DETAIL]


@dataclass(frozen=True)
class Fixed:
    out: Path
    removed_file: Path
    kept: int
    removed: int
    masked: int


def removed_path(out: Path) -> Path:
    """Beside the cleaned set: what is not in it, and why."""
    return out.with_name(f"{out.name}.removed.jsonl")


def check_out(train: Path, out: Path, *, overwrite: bool) -> None:
    """Raises InputError where the cleaned set cannot be written there, before work is done."""
    check_row_file(out, "--fix")
    if out.resolve() == train.resolve():
        raise InputError(
            "the cleaned set would replace its original", where=str(out),
            hint="give --fix another name",
        )  # fmt: skip
    if out.exists() and not overwrite:
        raise InputError("it is there already", where=str(out), hint="--overwrite replaces it")


def write_fixed(check: Check, out: Path, *, mask: bool, command: str, created: str) -> Fixed:
    """The rows that stay, in their order and Hinlap's layout, with a manifest; beside it one line
    for each row taken out: id, row, and every gate, kind and reason. ``mask`` also replaces
    personal data in the rows that stay. The set's own file is not touched.

    Raises as ``whole_file``, InputError where the file was changed after its manifest.
    """
    parent = parent_of(check.train, out, len(check.rows))
    before = read_manifest(check.train)
    removed = check.removed()
    personal = {
        finding.row
        for report in check.reports
        if report.name == "personal"
        for finding in report.findings
    }
    with whole_file(removed_path(out)) as sink:
        for row, why in removed.items():
            sink.write(line_of(_removed_line(check, row, why)))
        for bad in check.bad:
            sink.write(line_of({"where": bad.where, "gate": "reading", "reason": bad.reason}))
    hidden = [row for row in personal if row not in removed] if mask else []
    hides = set(hidden)
    kept = (
        masked_row(row) if index in hides else row
        for index, row in enumerate(check.rows)
        if index not in removed
    )
    count = write_rows(out, kept)
    by_gate = Counter(gate for why in removed.values() for gate in {name for name, _ in why})
    counts = {f"removed: {name}": n for name, n in by_gate.items()}
    counts |= {"masked": len(hidden)} if mask else {}
    counts |= {"bad rows": check.bad_count} if check.bad_count else {}
    write_manifest(
        out,
        Manifest(
            sha256=file_sha256(out),
            rows=count,
            licence=parent.licence,
            parents=(parent,),
            command=command,
            created=created,
            role=before.role if before else "",
            split=before.split if before else None,
            counts=counts,
        ),
    )
    return Fixed(out, removed_path(out), count, len(removed), len(hidden))


def _removed_line(check: Check, row: int, why: Sequence[tuple[str, Finding]]) -> dict[str, Any]:
    gate, first = why[0]
    line: dict[str, Any] = {
        "id": masked(check.rows[row].id),
        "row": row + 1,
        "gate": gate,
        "kind": first.kind,
        "reason": shown_detail(first),
    }
    if first.other is not None:
        line["other_id"] = masked(check.rows[first.other].id)
    if len(why) > 1:
        line["also"] = [f"{name}:{finding.kind}" for name, finding in why[1:]]
    return line
