from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hinlap.core.errors import InputError, UserError
from hinlap.core.rows import Origin, Row
from hinlap.data.annotation.checks import Kind, check_fields
from hinlap.data.annotation.desk import ConflictError, Desk, Status, Work, file_digest
from hinlap.data.annotation.log import Action, AnnotationLog, Fields, log_path
from hinlap.data.annotation.report import annotation_report, report_lines
from hinlap.data.near_duplicates import near_duplicates
from hinlap.data.near_index import NearIndex
from hinlap.data.row_files import read_rows, write_rows

ROWS = [
    Row("a", "Name a fruit.", "Mango.", labels={"category": "open_qa", "source": "x"}),
    Row("b", "What is it about?", "", "A long text.", origin=Origin.UNKNOWN),
    Row("c", "Count to three.", "1 2 3", origin=Origin.HUMAN),
]
NEW = "new-0123456789ab"
Open = Callable[[], Desk]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "set.jsonl"
    write_rows(path, ROWS)
    return path


@pytest.fixture
def desk(path: Path) -> Desk:
    return opened(path)


def opened(path: Path) -> Desk:
    rows = [row for row in read_rows(path) if isinstance(row, Row)]
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    return Desk(
        path, rows, AnnotationLog(log_path(path)), digest=file_digest(path), now=lambda: now
    )


def work(version: int, draft: str | None = None, **more: object) -> Work:
    return Work("mali", version, 2.0, 5.0, draft, **more)  # type: ignore[arg-type]


def answered(desk: Desk, key: str, output: str) -> Fields:
    old = desk.view(key).fields
    return Fields(old.instruction, old.input, output, old.category)


def saved(path: Path) -> dict[str, Row]:
    return {row.id: row for row in read_rows(path) if isinstance(row, Row)}


def finish(desk: Desk) -> bool:
    return desk.finish(lambda rows: void(write_rows(desk.path, rows)), "mali")


def void(_: object) -> None: ...


def test_each_deed_is_named_by_what_it_did_to_the_text(desk: Desk) -> None:
    assert desk.save("a", answered(desk, "a", "Mango."), work(0)).action is Action.KEPT
    assert desk.save("b", answered(desk, "b", "Of x."), work(0, "Of y.")).action is Action.WRITTEN
    assert desk.save("c", answered(desk, "c", "one"), work(0, "two")).action is Action.CORRECTED
    entry = desk.save("a", answered(desk, "a", "Plum."), work(1, "Plum."))
    assert (entry.action, entry.draft_distance) == (Action.ACCEPTED, 0)
    entry = desk.save("a", answered(desk, "a", "Plums."), work(4, "Plum."))
    assert (entry.action, entry.draft_distance) == (Action.CORRECTED, 1)
    assert desk.save("a", answered(desk, "a", "Mango."), work(5)).action is Action.KEPT


def test_an_answer_begun_from_the_draft_is_corrected_not_written(desk: Desk) -> None:
    entry = desk.save("b", answered(desk, "b", "It."), work(0, "Is.", from_draft=True))
    assert entry.action is Action.CORRECTED


def test_the_finished_set_says_who_wrote_and_keeps_every_other_column(desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    desk.save("b", answered(desk, "b", "A draft."), work(0, "A draft."))
    desk.flag("c", " wrong ", work(0))
    desk.save(NEW, Fields("New?", "", "Yes.", "general_qa"), work(0))
    assert finish(desk)
    rows = saved(desk.path)
    assert list(rows) == ["a", "b", "c", NEW]
    assert (rows["a"].output, rows["a"].origin) == ("Plum.", Origin.HUMAN)
    assert rows["a"].labels == {"category": "open_qa", "source": "x"}
    assert rows["b"].origin is Origin.MACHINE
    assert (rows["c"].output, rows["c"].origin) == ("1 2 3", Origin.HUMAN)
    assert rows["c"].labels == {"flagged": "wrong"}
    assert (rows[NEW].origin, rows[NEW].labels) == (Origin.HUMAN, {"category": "general_qa"})
    assert not finish(desk)  # nothing since


def test_opened_again_all_that_was_saved_is_there(path: Path, desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    desk.save(NEW, Fields("New?", "", "Yes."), work(0))
    again = opened(path)
    assert again.view("a").fields.output == "Plum."
    assert again.view(NEW).fields.output == "Yes."
    assert again.counts() == {Status.TODO: 2, Status.DONE: 2, Status.SKIPPED: 0, Status.FLAGGED: 0}


def test_after_finishing_the_file_is_the_truth_and_the_log_the_history(path: Path) -> None:
    desk = opened(path)
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    desk.save(NEW, Fields("New?", "", "Yes."), work(0))
    finish(desk)
    # another tool takes a row out and mends another
    rows = [row for key, row in saved(path).items() if key != NEW]
    write_rows(path, [Row("a", "Name a fruit.", "Papaya."), *rows[1:]])
    again = opened(path)
    assert again.orphans == 1
    assert again.view("a").fields.output == "Papaya."
    assert again.view("a").status is Status.DONE
    with pytest.raises(UserError, match="nothing to undo"):
        again.undo("mali")


def test_undo_brings_back_text_status_and_absence(desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    desk.flag("a", "wrong", work(1))
    desk.save(NEW, Fields("New?", "", "Yes."), work(0))
    assert desk.undo("mali").row == NEW
    assert not desk.holds(NEW)
    desk.undo("mali")
    assert desk.view("a").status is Status.DONE
    desk.undo("mali")
    assert desk.view("a").fields.output == "Mango."
    assert desk.view("a").status is Status.TODO
    with pytest.raises(UserError, match="nothing to undo"):
        desk.undo("mali")
    finish(desk)
    assert saved(desk.path)["a"] == ROWS[0]


def test_the_later_of_two_is_told_and_may_save_over_it(desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    other = Work("somchai", 0, 1.0, 1.0)
    with pytest.raises(ConflictError, match="mali saved this row meanwhile") as told:
        desk.save("a", answered(desk, "a", "Fig."), other)
    assert told.value.entry.fields is not None
    assert told.value.entry.fields.output == "Plum."
    desk.save("a", answered(desk, "a", "Fig."), Work("somchai", 1, 1.0, 1.0))
    assert desk.view("a").fields.output == "Fig."
    with pytest.raises(ConflictError, match="somchai"):
        desk.undo("mali")


def test_the_same_save_handed_in_twice_is_one(desk: Desk) -> None:
    fields = Fields("New?", "", "Yes.")
    first = desk.save(NEW, fields, work(0))
    assert desk.save(NEW, fields, work(0)) == first
    assert len(desk.entries) == 1


def test_two_processes_share_one_log(path: Path) -> None:
    one, two = opened(path), opened(path)
    one.save("a", answered(one, "a", "Plum."), work(0))
    assert two.view("a").fields.output == "Plum."
    with pytest.raises(ConflictError):
        two.save("a", answered(two, "a", "Fig."), Work("somchai", 0, 1.0, 1.0))
    two.save("b", answered(two, "b", "Of x."), Work("somchai", 0, 1.0, 1.0))
    assert finish(one)
    two.save("c", answered(two, "c", "one"), Work("somchai", 0, 1.0, 1.0))
    assert finish(two)
    outputs = {key: row.output for key, row in saved(path).items()}
    assert outputs == {"a": "Plum.", "b": "Of x.", "c": "one"}


def test_a_file_changed_by_others_meanwhile_is_left_alone(path: Path, desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    write_rows(path, [*ROWS, Row("d", "More?", "Yes.")])
    with pytest.raises(InputError, match="changed while it was annotated"):
        finish(desk)
    assert "d" in saved(path)
    assert finish(opened(path))
    assert saved(path)["a"].output == "Plum."
    assert "d" in saved(path)


@pytest.mark.parametrize("cut", [b'{"number": 2, "act', b'{"number": 2}\xff', b"\xe0\xb8"])
def test_a_last_line_broken_by_a_crash_is_told_and_cut(path: Path, desk: Desk, cut: bytes) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    with log_path(path).open("ab") as file:
        file.write(cut)
    log = AnnotationLog(log_path(path))
    assert log.repaired == cut.decode("utf-8", "replace")
    assert [entry.number for entry in log.read_new()] == [1]
    # the process that was open all the while goes on, too
    assert desk.skip("b", work(0)).number == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"number": 1}', "not an entry"),
        ("no json", "not an entry"),
        ("[1]", "not an entry"),
        ('{"number": 7, "action": "kept", "started_at": "", "ended_at": ""}', "says number 7"),
        ('{"number": 1, "action": "kept", "row": 3, "started_at": "", "ended_at": ""}', "number 1"),
    ],
)
def test_a_line_that_is_no_entry_is_named(path: Path, line: str, message: str) -> None:
    log_path(path).write_text(line + "\n")
    with pytest.raises(InputError, match=message) as told:
        opened(path)
    assert told.value.where.endswith(".annotations.jsonl:1")


def test_an_entry_that_the_disk_does_not_take_leaves_the_log_whole(path: Path) -> None:
    import resource
    import signal

    desk = opened(path)
    desk.save("a", answered(desk, "a", "Plum."), work(0))
    size = log_path(path).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(Exception, match="cannot be kept"):
            desk.save("b", answered(desk, "b", "x" * 5000), work(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert log_path(path).stat().st_size == size
    assert desk.view("b").fields.output == ""
    assert desk.save("b", answered(desk, "b", "short"), work(0)).number == 2


def test_no_row_is_saved_empty_and_no_unknown_row_at_all(desk: Desk) -> None:
    with pytest.raises(InputError, match="answer is empty"):
        desk.save("b", answered(desk, "b", " \n"), work(0))
    with pytest.raises(InputError, match="instruction is empty"):
        desk.save(NEW, Fields(" ", "", "Yes."), work(0))
    with pytest.raises(InputError, match="no row 'zzz'"):
        desk.save("zzz", Fields("a", "", "b"), work(0))
    with pytest.raises(InputError, match="needs a reason"):
        desk.flag("a", " ", work(0))
    assert log_path(desk.path).read_bytes() == b""


def test_windows_line_ends_and_halves_of_characters_do_not_make_a_change(path: Path) -> None:
    write_rows(path, [Row("w", "Two\r\nlines", "An\r\nanswer")])
    desk = opened(path)
    assert desk.save("w", desk.view("w").fields, work(0)).action is Action.KEPT
    finish(desk)
    assert saved(path)["w"].output == "An\r\nanswer"
    entry = desk.save("w", Fields("Two", "", "half \ud83d here"), work(1))
    assert entry.fields is not None
    assert entry.fields.output == "half ? here"


def test_rows_are_found_by_status_and_words_and_stepped_through_round_the_end(desk: Desk) -> None:
    desk.skip("b", work(0))
    assert [p.key for p in desk.places(None, "")[1]] == ["a", "b", "c"]
    assert [p.key for p in desk.places(Status.TODO, "THREE")[1]] == ["c"]
    assert desk.places(Status.FLAGGED, "")[0] == 0
    assert desk.step(1, 1, Status.TODO) == "c"
    assert desk.step(3, 1, Status.TODO) == "a"
    assert desk.step(-1, -1) == "c"
    assert desk.step(0, 1, Status.FLAGGED) == ""


def test_near_copies_are_found_while_writing_and_follow_the_rows(path: Path) -> None:
    text = "The harbour town counted its boats on Monday and found one more than last year."
    write_rows(path, [Row("a", "Summarise.", text), Row("b", "Other?", "Something else entirely.")])
    desk = opened(path)
    near = Fields("Summarise.", "", text.replace("more", "less"))
    assert desk.check("b", near, None) == []  # not indexed yet
    desk.index()
    assert [(c.kind, c.detail) for c in desk.check("b", Fields("Summarise.", "", text), None)] == [
        (Kind.NEAR_COPY, "a")
    ]
    assert desk.check("a", Fields("Summarise.", "", text), None) == []  # not of itself
    desk.save(
        "a", Fields("Summarise.", "", "All of it is new now, and quite another thing."), work(0)
    )
    assert desk.check("b", Fields("Summarise.", "", text), None) == []


def test_the_near_index_finds_what_near_duplicates_finds() -> None:
    draw = random.Random(1)
    words = [f"w{i}" for i in range(50)]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(150)]
    texts += [" ".join([*text.split()[:-1], "x"]) for text in texts] + ["", "ก" * 40, "ก" * 41]
    index = NearIndex()
    for number, text in enumerate(texts):
        index.put(str(number), text)
    found = {
        (number, int(key), round(similarity, 9))
        for number, text in enumerate(texts)
        for key, similarity in index.near(text, but=str(number))
        if int(key) < number
    }
    assert found == {(a, b, round(s, 9)) for a, b, s in near_duplicates(texts)}
    assert len(found) > 50


def test_hints_name_what_is_there() -> None:
    kinds = {check.kind for check in check_fields(Fields("", "", ""), None)}
    assert kinds == {Kind.NO_INSTRUCTION, Kind.NO_ANSWER}
    (same,) = check_fields(Fields("Why?", "", "So. "), "So.")
    assert same.kind is Kind.SAME_AS_DRAFT
    (echo,) = check_fields(Fields("Why so?", "", "why so"), None)
    assert echo.kind is Kind.SAME_AS_QUESTION


def test_personal_data_is_what_the_gate_finds_each_once() -> None:
    text = "โทร 02-123-4567 หรือ ๐๘๑-๒๓๔-๕๖๗๘, a.b@chula.ac.th, in 2010-2020"
    found = check_fields(Fields(text, "", f"{text}!"), None)
    assert [check.detail for check in found if check.kind is Kind.PERSONAL] == [
        "02-123-4567", "๐๘๑-๒๓๔-๕๖๗๘", "a.b@chula.ac.th",
    ]  # fmt: skip


def test_the_report_counts_rows_by_their_last_deed(desk: Desk) -> None:
    desk.save("a", answered(desk, "a", "Plum."), work(0, "Plum."))
    desk.save("b", answered(desk, "b", "Of x."), work(0, "Of y!"))
    desk.skip("c", work(0))
    desk.save("c", answered(desk, "c", "one"), work(3))
    desk.save(NEW, Fields("New?", "", "Yes."), work(0))
    desk.undo("mali")
    report = annotation_report(desk.entries)
    assert {k: v for k, v in report.rows.items() if v} == {
        Action.ACCEPTED: 1, Action.WRITTEN: 1, Action.CORRECTED: 1,
    }  # fmt: skip
    assert (report.seconds, report.n_seconds) == (2.0, 4)
    assert (report.drafts.n, report.drafts.value) == (2, 0.5)
    assert report.distance == 2
    assert any("drafts accepted unchanged: 50%" in line for line in report_lines(report))
    empty = annotation_report([])
    assert (empty.seconds, empty.drafts.value, empty.agreements) == (None, None, ())


def test_two_who_did_the_same_rows_are_compared(desk: Desk) -> None:
    for key, output in (("a", "Plum."), ("c", "one")):
        desk.save(key, answered(desk, key, output), work(0))
    desk.save("a", answered(desk, "a", "plum"), Work("somchai", 1, 1.0, 1.0))
    desk.flag("c", "wrong", Work("somchai", 2, 1.0, 1.0))
    (pair,) = annotation_report(desk.entries).agreements
    assert (pair.first, pair.second) == ("mali", "somchai")
    assert (pair.decision.n, pair.decision.value) == (2, 0.5)
    assert (pair.answer.n, pair.answer.value) == (1, 1.0)
    assert (pair.category.n, pair.category.value) == (1, 1.0)


def test_the_log_says_who_did_what_when_and_how_far_from_the_draft(path: Path, desk: Desk) -> None:
    desk.save("b", answered(desk, "b", "ตอบ"), work(0, "ตอบ?", draft_by="tiny"))
    (line,) = log_path(path).read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "number": 1,
        "action": "written",
        "row": "b",
        "annotator": "mali",
        "started_at": "2026-01-02T03:04:00.000+00:00",
        "ended_at": "2026-01-02T03:04:05.000+00:00",
        "seconds": 2.0,
        "fields": {
            "instruction": "What is it about?",
            "input": "A long text.",
            "output": "ตอบ",
            "category": "",
        },
        "draft": "ตอบ?",
        "draft_by": "tiny",
        "draft_distance": 1,
    }
