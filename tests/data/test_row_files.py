"""Reading and writing rows: every container, every bad input, and nothing half-written."""

from __future__ import annotations

import codecs
import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.core.errors import InputError
from hinlap.core.rows import BadRow, Origin, Row
from hinlap.data import containers
from hinlap.data.row_files import RowWriter, read_rows, write_rows

DATA = Path(__file__).parents[2].parent / "shared/data"
ALPACA = {"instruction": "Name a fruit.", "input": "", "output": "Mango."}


def lines(*records: Mapping[str, Any] | str) -> bytes:
    texts = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    return "".join(f"{text}\n" for text in texts).encode()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def split(path: Path, **options: Any) -> tuple[list[Row], list[tuple[str, str]]]:
    """Good rows, and (place, reason) of bad ones."""
    found = list(read_rows(path, **options))
    bad = [f for f in found if isinstance(f, BadRow)]
    places = [(b.where.removeprefix(str(path)).lstrip(": "), b.reason) for b in bad]
    return [f for f in found if isinstance(f, Row)], places


def asked(number: int, **more: Any) -> dict[str, Any]:
    return {"instruction": f"Question {number}?", "input": "", "output": f"A{number}", **more}


def outputs(path: Path, **options: Any) -> list[str]:
    rows, bad = split(path, **options)
    assert not bad
    return [row.output for row in rows]


THREE = [asked(number) for number in range(3)]
CSV = "instruction,input,output\n" + "".join(f"Question {n}?,,A{n}\n" for n in range(3))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(*THREE)),
        ("a.jsonl.gz", lines(*THREE)),
        ("a.ndjson", lines(*THREE).replace(b"\n", b"\r\n")),
        ("a.json", lines(*THREE)),
        ("a.json", json.dumps(THREE).encode()),
        ("a.json.gz", json.dumps(THREE, indent=2).encode()),
        ("a.json", json.dumps({"version": "1", "tags": ["x"], "data": THREE}, indent=1).encode()),
        ("a.json", "\n".join(json.dumps(record, indent=1) for record in THREE).encode()),
        ("a.csv", CSV.encode()),
        ("a.csv.gz", CSV.encode()),
        ("a.csv", CSV.replace(",", ";").encode()),
        ("a.tsv", CSV.replace(",", "\t").encode()),
        ("a.jsonl", codecs.BOM_UTF8 + lines(*THREE)),
        ("a.csv", codecs.BOM_UTF8 + CSV.encode()),
        ("a.json", codecs.BOM_UTF8 + json.dumps(THREE).encode()),
        ("a.jsonl", lines(*THREE).decode().encode("utf-16")),
        ("a.csv", codecs.BOM_UTF16_BE + CSV.encode("utf-16-be")),
        ("a.json.gz", json.dumps(THREE).encode("utf-16")),
        ("a.jsonl", lines(*THREE).decode().encode("utf-32")),
    ],
)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    assert outputs(put(tmp_path / name, content)) == ["A0", "A1", "A2"]


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path = put(tmp_path / "a.json", json.dumps({"messages": turns}, indent=2).encode())
    assert outputs(path) == ["Hello."]


def test_a_parquet_file_of_others_is_read(tmp_path: Path) -> None:
    import datetime

    day = datetime.date(2026, 1, 2)

    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "instruction": ["a", "b"], "output": ["x", None], "day": [day] * 2,
            "score": [float("nan"), 0.5], "raw": [b"\xff", b""], "input": [""] * 2,
        }
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    rows, bad = split(tmp_path / "a.parquet")
    assert rows[0].labels == {"day": "2026-01-02", "score": None, "raw": "/w=="}
    assert bad == [("row 2", "'output' is null, not a text")]


def test_the_order_of_bad_and_good_rows_is_the_file_s(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines(asked(0), "no json", asked(1), "[1]", asked(2)))
    rows, bad = split(path)
    assert [row.output for row in rows] == ["A0", "A1", "A2"]
    assert bad[0][0] == "2"
    assert bad[0][1].startswith("not JSON: ")
    assert bad[1] == ("4", "a list, where an object is meant")


def test_a_file_cut_within_its_last_line_loses_that_line_only(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines(*THREE)[:-8])
    rows, bad = split(path)
    assert len(rows) == 2
    assert bad == [("3", "the file ends within this line: it was cut")]


def test_a_json_list_cut_off_keeps_every_whole_item(tmp_path: Path) -> None:
    whole = json.dumps([asked(number) for number in range(500)], indent=1).encode()
    rows, bad = split(put(tmp_path / "a.json", whole[:-30]))
    assert len(rows) == 499
    assert bad[0][1].startswith("the file ends within a value: it was cut")


def test_a_json_list_broken_in_the_middle_keeps_what_stands_before(tmp_path: Path) -> None:
    whole = json.dumps([asked(n) for n in range(50)], indent=0).replace('"A30"', '"A30" oops')
    rows, bad = split(put(tmp_path / "a.json", whole.encode()))
    assert [row.output for row in rows] == [f"A{n}" for n in range(30)]
    assert "nothing behind it could be read" in bad[0][1]


def test_a_gzip_file_cut_off_keeps_what_stands_before(tmp_path: Path) -> None:
    import random

    noise = random.Random(3)
    many = lines(*(asked(n, note=str(noise.random())) for n in range(5000)))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(many)[:-2000])
    rows, bad = split(path)
    assert 1000 < len(rows) < 5000
    assert [row.output for row in rows] == [f"A{n}" for n in range(len(rows))]
    assert [reason for _, reason in bad][-1].startswith("the gzip data is broken or was cut")


def test_two_formats_in_one_file_are_told_apart(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    dolly = {"instruction": "a", "context": "", "response": "b", "category": "qa"}
    path = put(tmp_path / "a.jsonl", lines(*THREE, {"messages": said}, dolly, "a,b,c"))
    rows, bad = split(path)
    assert len(rows) == 3
    assert [place for place, _ in bad] == ["4", "5", "6"]
    assert bad[0][1] == "no 'instruction': it looks like messages, where the file is alpaca"
    assert bad[1][1] == "no 'output': it looks like dolly, where the file is alpaca"
    assert bad[2][1].startswith("not JSON")


def test_two_containers_in_one_file_are_told(tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", json.dumps(THREE).encode() + b"\ninstruction,output\n")
    rows, bad = split(path)
    assert len(rows) == 3
    assert "text behind the end of the JSON" in bad[0][1]


def test_a_line_over_the_limit_is_skipped_in_bounded_memory(tmp_path: Path) -> None:
    """400 MB on one line, read by a process that may have 300 MB of data."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(lines(asked(0)) + b'{"instruction": "')
        for _ in range(400):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + lines(asked(1)))
    script = (
        "import sys, pathlib, resource\n"
        "from hinlap.data.row_files import read_rows\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (300_000_000,) * 2)\n"
        "for found in read_rows(pathlib.Path(sys.argv[1])):\n"
        "    print(getattr(found, 'output', None) or found.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "A0", "a line of 400,000,020 bytes; 64,000,000 are the most", "A1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"instruction": "caf\xe9", "output": "b"}',
         "not UTF-8 (byte 0xe9, byte 21 of the line)"),
        (b'{"instruction": "a\x00", "output": "b"}', "NUL bytes among the text"),
        (b'{"instruction": "a", "output": NaN}', "NaN is not JSON"),
        (b'{"instruction": "a", "output": "\\ud83d"}',
         "half a character (a lone surrogate): a text was cut within it"),
        (b"[" * 3000, "JSON that is nested too deeply"),
        (b'{"instruction": 5, "output": ["a"]}', "'output' is a list, not a text"),
        (b'{"instruction": "a"}', "no 'output'"),
        (b'{"instruction": null, "output": "b"}', "'instruction' is null, not a text"),
        (b'{"instruction": "a", "output": "b", "id": {}}', "'id' is an object, not a name"),
        (b'{"instruction": "a", "output": "b", "history": [["x"]]}',
         "'history' has a turn that is not [asked, answered]"),
    ],
)  # fmt: skip
def test_a_bad_record_is_told_and_the_next_goes_on(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = put(tmp_path / "a.jsonl", lines(asked(0)) + line + b"\n" + lines(asked(1)))
    rows, bad = split(path)
    assert [row.output for row in rows] == ["A0", "A1"]
    assert bad == [("2", reason)]


def test_whole_numbers_of_any_length_stay_what_they_are(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines(asked(0, id=123456789012345678901234)))
    rows, _ = split(path)
    assert rows[0].id == "123456789012345678901234"


@pytest.mark.parametrize(
    ("body", "good", "bad"),
    [
        ('"he said "hi" to me",,x\nb,,y\n', ["y"],
         [("2", 'a quote within a quoted cell that is not doubled ("")')]),
        ('"he said ""hi"", twice",,x\n', ["x"], []),
        ('"never closed,,x\nb,,y\nc,,z\n', ["y", "z"],
         [("2", "a quote that opens here is never closed")]),
        ('"open,,x\n"b",,y\nc,,z\n', ["y", "z"],
         [("2", 'a quote within a quoted cell that is not doubled ("")')]),
        ('"two\nlines",,x\nb,,y\n', ["x", "y"], []),
        ("a,,x\nb,y\n", ["x"], [("3", "2 cells, where the first line names 3")]),
        ("a,b,c,d\nb,,y\n", ["y"], [("2", "4 cells, where the first line names 3")]),
        ("a\x00,,x\nb,,y\n", ["y"], [("2", "NUL bytes among the text")]),
    ],
)  # fmt: skip
def test_quotes_and_cells_of_csv(
    tmp_path: Path, body: str, good: list[str], bad: list[tuple[str, str]]
) -> None:
    path = put(tmp_path / "a.csv", f"instruction,input,output\n{body}".encode())
    rows, found = split(path)
    assert ([row.output for row in rows], found) == (good, bad)


def test_a_csv_row_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", b"instruction,input,output\ncaf\xe9,,x\nb,,y\n")
    rows, bad = split(path)
    assert [row.output for row in rows] == ["y"]
    assert bad == [("2", "not UTF-8 (byte 0xe9)")]


def test_a_csv_line_over_the_limit_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "CSV_RECORD_BYTES", 1000)
    path = put(tmp_path / "a.csv", f"instruction,input,output\n{'x' * 5000},,a\nb,,y\n".encode())
    rows, bad = split(path)
    assert [row.output for row in rows] == ["y"]
    assert bad == [("2", "a line of more than 1,000 characters")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.json", b" \n", "the file is empty"),
        ("a.csv", b"instruction,output,output\na,b,c\n", "two columns have the name 'output'"),
        ("a.jsonl", '{"instruction": "a", "output": "b"}'.encode("utf-16-be"),
         "UTF-16 or UTF-32 without a byte order mark"),
        ("a.docx", b"hello", "unknown kind of file '.docx'"),
        ("a.json", b"hello", "not what its name says"),
        ("a.jsonl", b'{"foo": 1}\n', "in no known format; its columns are 'foo'"),
        ("a.jsonl", b"hello\nworld\n", "nothing in it could be read: not JSON"),
        ("a.parquet", b"PAR1 and no more", "no Parquet file that can be read"),
        ("a.jsonl.gz", b"\x1f\x8b broken", "the gzip data is broken"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        list(read_rows(path))
    assert str(path) in caught.value.where


def test_no_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="a folder"):
        list(read_rows(tmp_path))


def test_columns_can_be_mapped(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", b"question,answer,topic\nQ?,A.,x\n")
    with pytest.raises(InputError, match="no known format"):
        list(read_rows(path))
    rows, bad = split(path, columns={"instruction": "question", "output": "answer"})
    assert not bad
    assert (rows[0].instruction, rows[0].output, rows[0].labels) == ("Q?", "A.", {"topic": "x"})


def test_a_mapped_column_beside_one_of_that_name_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", lines(asked(0, question="Q?")))
    _, bad = split(path, format="alpaca", columns={"instruction": "question"})
    assert bad[0][1].startswith("a column 'instruction' stands beside")
    swap = {"instruction": "question", "old": "instruction"}
    rows, _ = split(path, format="alpaca", columns=swap)
    assert (rows[0].instruction, rows[0].labels) == ("Q?", {"old": "Question 0?"})


def test_ids_are_the_rows_own_each_once(tmp_path: Path) -> None:
    records = [asked(1), asked(1), asked(2, id="a"), asked(3, id="a"), asked(4, id="a-2"), asked(1)]
    rows, _ = split(put(tmp_path / "a.jsonl", lines(*records)))
    first = rows[0].id
    assert len(first) == 16
    names = [row.id for row in rows]
    assert names == [first, f"{first}-2", "a", "a-2", "a-2-2", f"{first}-3"]


def texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def any_row() -> st.SearchStrategy[Row]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | texts(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(), inner, max_size=2),
        max_leaves=4,
    )  # fmt: skip
    names = texts() | st.sampled_from(["id", "labels", "group", "history", "output", "origin"])
    return st.builds(
        Row, id=texts().filter(bool), instruction=texts(), output=texts(), input=texts(),
        system=texts(), history=st.lists(st.tuples(texts(), texts()), max_size=2).map(tuple),
        group=texts(), origin=st.sampled_from(Origin), parent=texts(),
        labels=st.dictionaries(names, values, max_size=3),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(any_row(), min_size=1, max_size=5, unique_by=lambda row: row.id), st.data())
def test_any_row_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], data: st.DataObject
) -> None:
    ending = data.draw(st.sampled_from([".jsonl", ".jsonl.gz", ".parquet"]))
    path = tmp_path_factory.mktemp("rows") / f"rows{ending}"
    assert write_rows(path, rows) == len(rows)
    assert list(read_rows(path)) == rows


def test_equal_rows_make_equal_files(tmp_path: Path) -> None:
    rows = [Row("1", "a", "b")]
    for name in ("x.jsonl.gz", "y.jsonl.gz"):
        write_rows(tmp_path / name, rows)
    assert (tmp_path / "x.jsonl.gz").read_bytes() == (tmp_path / "y.jsonl.gz").read_bytes()


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write_rows(path, [Row("1", "a", "b")])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), RowWriter(path) as sink:
        sink.write(Row("2", "c", "d"))
        _ = 1 / 0
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_disk_that_is_full_is_told_and_nothing_is_left(tmp_path: Path, ending: str) -> None:
    """A process that may write 50,000 bytes to one file."""
    script = (
        "import sys, signal, resource, pathlib, random\n"
        "from hinlap.core.errors import StorageError\n"
        "from hinlap.core.rows import Row\n"
        "from hinlap.data.row_files import write_rows\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import pyarrow.parquet\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)\n"
        "noise = random.Random(1)\n"
        "rows = (Row(str(i), str(noise.random()), 'x') for i in range(30_000))\n"
        "try:\n"
        "    write_rows(pathlib.Path(sys.argv[1]), rows)\n"
        "except StorageError as error:\n"
        "    print(error.what)\n"
    )
    path = tmp_path / f"rows{ending}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("could not be written (File too large)", "")
    assert list(tmp_path.iterdir()) == []


def test_rows_are_written_to_known_endings_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.jsonl, \.jsonl\.gz, \.parquet"):
        RowWriter(tmp_path / "rows.txt")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_dolly_and_alpaca_are_read_to_the_last_row() -> None:
    rows, bad = split(DATA / "dolly/databricks-dolly-15k.sample.jsonl.gz")
    assert (len(rows), bad) == (9009, [])
    with_input = Counter(row.labels["category"] for row in rows if row.input)
    assert set(with_input) == {"closed_qa", "information_extraction", "summarization"}
    rows, bad = split(DATA / "alpaca/alpaca_sample.jsonl.gz")
    assert (len(rows), bad) == (3000, [])
