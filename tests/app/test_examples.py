from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.app.examples import make_examples, read_rows
from hinlap.core.errors import AppError, InputError
from hinlap.core.examples import Example, Split


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def made(*rows: dict[str, str]) -> list[Example]:
    numbered = [(f"f.jsonl:{index}", row) for index, row in enumerate(rows, 1)]
    return make_examples(numbered, inputs=["text"], steps=["summary"], split=Split.TRAIN)


def test_jsonl_rows_come_with_their_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b", "n": 3, "none": null}\n')
    assert read_rows(file) == [
        (f"{file}:1", {"text": "a"}),
        (f"{file}:3", {"text": "b", "n": "3"}),
    ]


def test_csv_rows_come_with_their_lines_and_empty_cells_are_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'text,label\n"a, b",\n"two\nlines",x\n')
    assert read_rows(file) == [
        (f"{file}:2", {"text": "a, b"}),
        (f"{file}:4", {"text": "two\nlines", "label": "x"}),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_thai_and_emoji_are_read_as_they_stand(tmp_path: Path, name: str) -> None:
    text = "ช้าง 🐘 ก่ำ\u200b"
    content = f"text\n{text}\n" if name.endswith("csv") else json.dumps({"text": text})
    assert read_rows(write(tmp_path / name, content))[0][1] == {"text": text}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path, name: str) -> None:
    content = "text\r\nก\r\n" if name.endswith("csv") else '{"text": "ก"}\r\n'
    file = write(tmp_path / name, b"\xef\xbb\xbf" + content.encode())
    assert read_rows(file)[0][1] == {"text": "ก"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_an_article_of_a_megabyte_is_read_whole(tmp_path: Path, name: str) -> None:
    text = "word " * 210_000
    content = f'text\n"{text}"\n' if name.endswith("csv") else json.dumps({"text": text})
    assert read_rows(write(tmp_path / name, content))[0][1]["text"] == text


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a\u2028b"}\n')
    assert read_rows(file)[0][1]["text"] == "a\u2028b"


def test_a_lone_surrogate_becomes_something_that_can_be_stored(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "ก\\ud800"}')
    assert read_rows(file)[0][1]["text"] == "ก?"


@pytest.mark.parametrize(
    ("name", "content", "line", "what"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ":2", r"not UTF-8 \(byte 0xff\)"),
        ("a.csv", "text\nข่าว\n".encode("cp874"), ":2", "not UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', ":2", "not JSON: .*column"),
        ("a.jsonl", '{"text": "a"}\n["a"]\n', ":2", "expected a JSON object"),
        ("a.jsonl", "[" * 100_000, ":1", "cannot be read: .*recursion"),
        ("a.jsonl", '{"text": %s}' % ("1" * 5000), ":1", "cannot be read: .*digits"),
        ("a.csv", "text,label\na,b,c\n", ":2", "more cells than the first line has names"),
        ("a.xlsx", "text", "", "unknown kind of file '.xlsx'"),
        ("a", "text", "", r"unknown kind of file '\(no ending\)'"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, line: str, what: str
) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(InputError, match=what) as caught:
        read_rows(file)
    assert caught.value.where == f"{file}{line}"
    assert caught.value.hint


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        read_rows(tmp_path / "nowhere.jsonl")


def test_a_file_of_the_app_is_an_error_of_the_app(tmp_path: Path) -> None:
    with pytest.raises(AppError):
        read_rows(tmp_path / "nowhere.jsonl", AppError)


def test_a_row_becomes_inputs_wanted_outputs_and_labels() -> None:
    row = {"id": "x", "text": "A text.", "summary": "Short.", "title": "T"}
    assert made(row) == [
        Example(
            id="x",
            inputs={"text": "A text."},
            split=Split.TRAIN,
            wanted={"summary": "Short."},
            labels={"text": "A text.", "title": "T"},
            where="f.jsonl:1",
        )
    ]


def test_a_blank_wanted_output_is_none() -> None:
    assert made({"text": "a", "summary": "  "})[0].wanted == {}


def test_a_row_without_an_id_gets_one_from_its_inputs() -> None:
    plain, with_label = made({"text": "ก"})[0], made({"text": "ก", "title": "T"})[0]
    other = made({"text": "ข"})[0]
    assert plain.id == with_label.id != other.id


@pytest.mark.parametrize(
    ("rows", "line", "what"),
    [
        ([{"text": "a"}, {"title": "b"}], 2, "the input 'text' is missing"),
        ([{"text": ""}], 1, "the input 'text' is empty"),
        ([{"text": " \n\t\u00a0\u3000"}], 1, "the input 'text' is empty"),
        ([{"text": "a"}, {"text": "a"}], 2, "the same inputs as f.jsonl:1"),
        ([{"id": "1", "text": "a"}, {"id": "1", "text": "b"}], 2, "the id '1' stands already at"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_with_its_line(
    rows: list[dict[str, str]], line: int, what: str
) -> None:
    with pytest.raises(InputError, match=what) as caught:
        made(*rows)
    assert caught.value.where == f"f.jsonl:{line}"
    assert caught.value.hint


def test_a_missing_input_tells_which_columns_there_are() -> None:
    with pytest.raises(InputError, match="this row has: Text, title"):
        made({"Text": "a", "title": "b"})


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back_from_jsonl_as_it_went(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    write(file, json.dumps({"text": text}, ensure_ascii=False))
    assert read_rows(file)[0][1] == {"text": text}
