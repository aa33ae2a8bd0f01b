from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hinlap.cli.data_annotate import data_annotate
from hinlap.cli.data_annotate_terminal import _plain, read_edited
from hinlap.core.errors import UserError
from hinlap.core.rows import Origin, Row
from hinlap.data.row_files import read_rows, write_rows

ROWS = [
    Row("a", "Name a fruit.", "Mango."),
    Row("b", "Say yes in Thai.", "", "ใช่ไหม"),
    Row("c", "Count to three.", "1 2 3"),
]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "set.jsonl", ROWS)
    return tmp_path / "set.jsonl"


def terminal(path: Path, typed: str, *options: str) -> Result:
    arguments = [str(path), "--terminal", "--annotator", "mali", *options]
    return CliRunner().invoke(data_annotate, arguments, input=typed, catch_exceptions=False)


def saved(path: Path) -> dict[str, Row]:
    return {row.instruction: row for row in read_rows(path) if isinstance(row, Row)}


def test_rows_are_kept_written_flagged_and_undone(path: Path) -> None:
    ended = terminal(path, "k\nw\nใช่\nครับ\n\nf\nunclear\nn\nu\nw\none\n\nn\n")
    assert ended.exit_code == 0, ended.output
    # nothing was left to do after the flag: "new row?" no; so the undo never came
    assert "saved: kept" in ended.output
    rows = saved(path)
    assert rows["Say yes in Thai."].output == "ใช่\nครับ"
    assert rows["Say yes in Thai."].origin is Origin.HUMAN
    assert rows["Count to three."].labels == {"flagged": "unclear"}
    assert "1 written · 1 kept · 1 flagged" in ended.output


def test_undo_goes_back_to_the_row(path: Path) -> None:
    ended = terminal(path, "s\nu\nw\nFig.\n\nq\n")
    assert "undone: skipped of a" in ended.output
    assert saved(path)["Name a fruit."].output == "Fig."


def test_drafts_are_shown_and_accepted(path: Path, chat_server: Any) -> None:
    ended = terminal(path, "d\na\nq\n", "--model", f"{chat_server.url}#test-model")
    assert "draft: An answer." in ended.output
    row = saved(path)["Name a fruit."]
    assert (row.output, row.origin) == ("An answer.", Origin.MACHINE)
    assert "drafts accepted unchanged: 100%" in ended.output


def test_a_draft_that_fails_is_told_and_the_work_goes_on(path: Path, chat_server: Any) -> None:
    chat_server.answer = lambda body: (400, {}, {"error": {"message": "too long"}})
    ended = terminal(path, "d\nw\nFig.\n\nq\n", "--model", f"{chat_server.url}#test-model")
    assert "no draft: HTTP 400: too long" in ended.output
    assert saved(path)["Name a fruit."].output == "Fig."


def test_a_row_is_written_in_the_editor(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = path.parent / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/Mango\\./Papaya.\\n\\nAnd figs./' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VISUAL", str(editor))
    terminal(path, "e\nq\n")
    assert saved(path)["Name a fruit."].output == "Papaya.\n\nAnd figs."


def test_a_heading_lost_in_the_editor_is_told() -> None:
    with pytest.raises(UserError, match="'#: input' is not where it was"):
        read_edited("#: category\n#: instruction\nWhy?\n#: answer\nSo.\n")


def test_personal_data_is_asked_about(path: Path) -> None:
    ended = terminal(path, "w\ncall 081-234-5678\n\nn\nk\nq\n")
    assert "personal data? 081-234-5678" in ended.output
    assert saved(path)["Name a fruit."].output == "Mango."


def test_an_empty_set_begins_with_new_rows(path: Path) -> None:
    fresh = path.parent / "fresh.jsonl"
    ended = terminal(fresh, "y\nopen_qa\nWhy?\n\n\nSo.\n\nn\n", "--new")
    assert ended.exit_code == 0, ended.output
    (row,) = saved(fresh).values()
    assert (row.instruction, row.output, row.origin) == ("Why?", "So.", Origin.HUMAN)
    assert row.labels == {"category": "open_qa"}


def test_the_end_of_input_ends_it_and_writes_what_was_done(path: Path) -> None:
    ended = terminal(path, "w\nFig.\n\n")
    assert ended.exit_code == 0
    assert saved(path)["Name a fruit."].output == "Fig."


def test_text_from_a_file_cannot_act_on_the_terminal() -> None:
    assert _plain("a\x1b[2Jb\r\tc\nก็") == "a�[2Jb�\tc\nก็"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "there is no such file"),
        ("none.jsonl/x.jsonl", None, "there is no such folder"),
        ("t.csv", "instruction,output\na,b\n", "must end in .jsonl"),
        ("empty.jsonl", "", "the file is empty"),
        (
            "cut.jsonl",
            '{"instruction": "a", "input": "", "output": "b"}\n{"instruction": "a", "inp',
            "1 record of 2 cannot be read",
        ),
    ],
)
def test_a_file_that_cannot_be_annotated_is_told_and_left(
    path: Path, hinlap_here: Callable[..., Any], name: str, content: str | None, message: str
) -> None:
    file = path.parent / name
    if content is not None:
        file.write_text(content)
    ended = hinlap_here("data", "annotate", file, "--terminal")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not os.path.exists(f"{file}.annotations.jsonl")
    if content is not None:
        assert file.read_text() == content


def test_a_log_broken_by_a_crash_is_told(path: Path, hinlap_here: Callable[..., Any]) -> None:
    terminal(path, "w\nFig.\n\nq\n")
    with Path(f"{path}.annotations.jsonl").open("a") as log:
        log.write('{"number": 3, "act')
    ended = hinlap_here("data", "annotate", path, "--finish")
    assert ended.returncode == 0
    assert "its last line was cut by a crash" in ended.stderr
    assert "1 corrected" in ended.stdout
    again = hinlap_here("data", "annotate", path, "--finish")
    assert "crash" not in again.stderr


def test_a_service_elsewhere_needs_prices_and_a_cap(
    path: Path, hinlap_here: Callable[..., Any]
) -> None:
    ended = hinlap_here("data", "annotate", path, "--terminal", "--model", "https://a.example/v1#m")
    assert ended.returncode == 2
    assert "--budget-usd" in ended.stderr
