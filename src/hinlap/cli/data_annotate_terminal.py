"""The annotation form for a terminal: the same rows, drafts and log as the page."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace

import click

from hinlap.core.errors import HinlapError, UserError
from hinlap.data.annotation.checks import Check, Kind
from hinlap.data.annotation.desk import ConflictError, Status, View, Work
from hinlap.data.annotation.log import Fields
from hinlap.workflows.annotate import Annotating
from hinlap.workflows.drafts import Draft, DraftStatus

_GLANCE_SECONDS = 1.0
"""That a draft is waited for before the form is shown without it."""
_PATIENCE_SECONDS = 180.0
_LONGEST_SHOWN = 4000
_HEADINGS = ("category", "instruction", "input", "answer")
_EDIT_HELP = "# Write under the headings and leave these in their places.\n"
_HINTS = {
    Kind.NO_INSTRUCTION: "there is no instruction",
    Kind.NO_ANSWER: "there is no answer",
    Kind.PERSONAL: "personal data? {detail}",
    Kind.NEAR_COPY: "{percent} like row {detail}",
    Kind.SAME_AS_DRAFT: "the answer is the draft as it was",
    Kind.SAME_AS_QUESTION: "the answer repeats the question",
}
_WORTH_ASKING = (Kind.PERSONAL, Kind.NEAR_COPY, Kind.SAME_AS_QUESTION)


@dataclass
class _Sitting:
    work: Annotating
    annotator: str
    opened: float = 0.0

    def handed_in(self, view: View | None, draft: str | None, from_draft: bool = False) -> Work:
        seconds = time.monotonic() - self.opened
        drafter = self.work.drafter
        return Work(
            self.annotator,
            view.version if view else 0,
            seconds,
            seconds,
            draft,
            drafter.name if drafter and draft is not None else "",
            from_draft,
        )


def ask_all(work: Annotating, annotator: str) -> None:
    """Asks for one row after the other until none is left to do, or q or Ctrl-C."""
    sitting = _Sitting(work, annotator)
    work.desk.index()
    position = 0
    try:
        while key := work.desk.step(position, 1, Status.TODO):
            view = work.desk.view(key)
            moved = _ask(sitting, view)
            if moved is None:
                return
            position = moved
        click.echo("nothing more to do")
        while click.confirm("write a new row?", default=False):
            _new(sitting)
    except (click.Abort, EOFError):
        click.echo()


def _ask(sitting: _Sitting, view: View) -> int | None:
    """The position to go on from; None to end."""
    desk = sitting.work.desk
    sitting.opened = time.monotonic()
    draft = _wait_for_draft(sitting, view.key, view.fields, _GLANCE_SECONDS)
    _show(view, desk.counts(), draft)
    while True:
        text = draft.text if draft and draft.status is DraftStatus.READY else None
        letter = _choose(draft, bool(view.fields.output))
        try:
            if letter == "q":
                return None
            if letter == "d":
                draft = _wait_for_draft(sitting, view.key, view.fields, _PATIENCE_SECONDS)
                _show_draft(draft)
                continue
            if letter == "n":
                _new(sitting)
                _show(view, desk.counts(), draft)
                continue
            if letter == "u":
                taken_back = desk.undo(sitting.annotator)
                click.secho(f"undone: {taken_back.action} of {taken_back.row}", fg="green")
                again = taken_back.row
                return desk.view(again).position if desk.holds(again) else view.position
            if letter == "s":
                entry = desk.skip(view.key, sitting.handed_in(view, text))
            elif letter == "f":
                reason = click.prompt("what is wrong")
                entry = desk.flag(view.key, reason, sitting.handed_in(view, text))
            else:
                found = _written(letter, view.fields, text)
                if found is None or not _sure(desk.check(view.key, found, text)):
                    continue
                entry = desk.save(
                    view.key, found, sitting.handed_in(view, text, from_draft=letter == "c")
                )
        except ConflictError as error:
            click.secho(str(error), fg="red", err=True)
            return view.position
        except UserError as error:
            click.secho(str(error), fg="red", err=True)
            continue
        click.secho(f"saved: {entry.action} · {entry.seconds:.0f} s", fg="green")
        return view.position + 1


def _choose(draft: Draft | None, has_answer: bool) -> str:
    ways: dict[str, str] = {}
    if draft is not None and draft.status is DraftStatus.READY:
        ways |= {"a": "accept draft", "c": "correct draft"}
    if draft is not None:
        ways["d"] = "show draft"
    if has_answer:
        ways["k"] = "keep"
    ways |= {"w": "write", "e": "edit", "s": "skip", "f": "flag", "n": "new", "u": "undo"}
    ways["q"] = "end"
    click.echo("  ".join(f"[{letter}] {name}" for letter, name in ways.items()))
    letters = click.Choice(list(ways))
    return str(click.prompt("", type=letters, show_choices=False, prompt_suffix="> "))


def _written(letter: str, fields: Fields, draft: str | None) -> Fields | None:
    """The row as it is to be saved; None where the editor was left without saving."""
    if letter == "a" and draft is not None:
        return replace(fields, output=draft)
    if letter == "k":
        return fields
    if letter == "w":
        return replace(fields, output=_several_lines("answer"))
    return edited(replace(fields, output=draft) if letter == "c" and draft else fields)


def _several_lines(name: str) -> str:
    """Line by line up to an empty one; a text with empty lines in it is written in the editor."""
    click.echo(f"{name} (an empty line ends it):")
    lines: list[str] = []
    while line := click.prompt("", default="", show_default=False, prompt_suffix=""):
        lines.append(str(line))
    return "\n".join(lines)


def edited(fields: Fields) -> Fields | None:
    """The fields as they come back from $EDITOR; None where it was left without saving."""
    texts = (fields.category, fields.instruction, fields.input, fields.output)
    parts = [f"#: {name}\n{text}\n" for name, text in zip(_HEADINGS, texts, strict=True)]
    back = click.edit(_EDIT_HELP + "\n".join(parts), extension=".md")
    return None if back is None else read_edited(back)


def read_edited(text: str) -> Fields:
    """Raises UserError where a heading is not where it was.

    >>> read_edited("#: category\\nqa\\n#: instruction\\nWhy?\\n#: input\\n#: answer\\nSo.\\n")
    Fields(instruction='Why?', input='', output='So.', category='qa')
    """
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        wanted = _HEADINGS[len(found)] if len(found) < len(_HEADINGS) else None
        if line.startswith("#: ") and line[3:].strip() == wanted:
            found.append((wanted, []))
        elif found:
            found[-1][1].append(line)
    if len(found) != len(_HEADINGS):
        raise UserError(
            f"the heading '#: {_HEADINGS[len(found)]}' is not where it was",
            hint="edit again and leave the lines that begin with #: as they are",
        )
    category, instruction, given, output = ("\n".join(lines).strip() for _, lines in found)
    return Fields(instruction, given, output, category)


def _sure(checks: list[Check]) -> bool:
    for check in checks:
        said = _HINTS[check.kind].format(detail=check.detail, percent=f"{check.similarity:.0%}")
        click.secho(f"  hint: {said}", fg="yellow")
    if not any(check.kind in _WORTH_ASKING for check in checks):
        return True
    return click.confirm("save all the same?", default=True)


def _new(sitting: _Sitting) -> None:
    sitting.opened = time.monotonic()
    category = click.prompt("category", default="", show_default=False)
    instruction = _several_lines("instruction")
    given = _several_lines("input, or nothing")
    if not instruction.strip():
        click.echo("no instruction: no row")
        return
    key = f"new-{secrets.token_hex(6)}"
    asked = Fields(instruction, given, "", category)
    draft = _wait_for_draft(sitting, key, asked, _GLANCE_SECONDS)
    _show_draft(draft)
    text = draft.text if draft and draft.status is DraftStatus.READY else None
    fields = replace(asked, output=_several_lines("answer"))
    if text is not None and not fields.output:
        if not click.confirm("take the draft?", default=False):
            return
        fields = replace(asked, output=text)
    try:
        if _sure(sitting.work.desk.check(key, fields, text)):
            entry = sitting.work.desk.save(key, fields, sitting.handed_in(None, text))
            click.secho(f"saved: {entry.action} · {entry.seconds:.0f} s", fg="green")
    except UserError as error:
        click.secho(str(error), fg="red", err=True)


def _wait_for_draft(sitting: _Sitting, key: str, fields: Fields, seconds: float) -> Draft | None:
    try:
        found = sitting.work.draft(key, fields, again=seconds > _GLANCE_SECONDS)
    except HinlapError as error:
        return Draft(DraftStatus.FAILED, error=str(error))
    deadline = time.monotonic() + seconds
    while found and found.status is DraftStatus.PENDING and time.monotonic() < deadline:
        time.sleep(0.05)
        found = sitting.work.draft(key, fields)
    return found


def _show(view: View, counts: dict[Status, int], draft: Draft | None) -> None:
    done = sum(counts.values()) - counts[Status.TODO]
    category = f" · {view.fields.category}" if view.fields.category else ""
    click.echo()
    click.secho(
        f"row {view.position + 1}{category} · {done:,} of {sum(counts.values()):,} done", bold=True
    )
    for name, text in (("system", view.row.system), *_turns(view)):
        if text:
            _part(name, text)
    _part("instruction", view.fields.instruction)
    if view.fields.input:
        _part("input", view.fields.input)
    if view.fields.output:
        _part("answer", view.fields.output)
    _show_draft(draft)


def _turns(view: View) -> list[tuple[str, str]]:
    return [
        part for asked, answered in view.row.history
        for part in (("asked", asked), ("answered", answered))
    ]  # fmt: skip


def _show_draft(draft: Draft | None) -> None:
    if draft is None:
        return
    if draft.status is DraftStatus.READY:
        _part("draft, cut" if draft.cut else "draft", draft.text)
    elif draft.status is DraftStatus.FAILED:
        click.secho(f"no draft: {draft.error}", fg="yellow")
    else:
        click.secho("the draft is being written: d shows it", dim=True)


def _part(name: str, text: str) -> None:
    click.secho(f"{name}: ", fg="cyan", nl=False)
    shown = _plain(text)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]} … ({len(shown):,} characters; e shows all)"
    click.echo(shown)


def _plain(text: str) -> str:
    """Without the control characters by which a text could act on the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() or c == "\u200b" else "�" for c in text)
