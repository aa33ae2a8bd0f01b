from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
MAIL = "somchai@chula.ac.th"
GOOD = [
    {"instruction": f"Tell me a fact about the number {n}.", "input": "", "output": text}
    for n, text in enumerate(
        ["It is first.", "Two follows it.", "<script>alert(1)</script> is code."]
    )
]
ROWS = [
    *GOOD,
    GOOD[0],
    {
        "instruction": "What is love?",
        "input": "",
        "output": "As an AI language model, I cannot say.",
    },
    {"instruction": "Whom do I ask?", "input": "", "output": f"Write to {MAIL} for help."},
    {"instruction": "What is the most popular sport in Japan?", "input": "", "output": "Baseball"},
]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    path = tmp_path / "test.jsonl"
    row = {"instruction": "What is the most popular sport in Japan?", "input": "", "output": "x"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_counts_on_the_terminal_and_the_file_untouched(hinlap_here: Run, train: Path) -> None:
    before = train.read_bytes()
    done = hinlap_here("data", "check", train)
    assert done.returncode == 0
    assert "1  copy" in done.stdout
    assert "1  boilerplate" in done.stdout
    assert "1  email" in done.stdout
    assert "--fix OUT would take out 2 rows" in done.stdout
    assert MAIL not in done.stdout
    assert train.read_bytes() == before


def test_fix_says_of_every_row_why_it_is_out(
    hinlap_here: Run, train: Path, test_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "clean.jsonl"
    done = hinlap_here("data", "check", train, "--against", test_file, "--fix", out)
    assert done.returncode == 0, done.stderr
    kept, removed = lines(out), lines(tmp_path / "clean.jsonl.removed.jsonl")
    assert len(kept) + len(removed) == len(ROWS)
    assert [(r["row"], r["gate"], r["kind"]) for r in removed] == [
        (4, "duplicates", "copy"),
        (5, "answers", "boilerplate"),
        (7, "overlap", "question"),
    ]
    manifest = json.loads((tmp_path / "clean.jsonl.manifest.json").read_text())
    assert manifest["rows"] == len(kept)
    assert manifest["parents"][0]["path"] == "train.jsonl"
    assert any(MAIL in row["output"] for row in kept)  # not masked unless asked


def test_masked_rows_and_a_cleaned_set_passes(
    hinlap_here: Run, train: Path, tmp_path: Path
) -> None:
    out = tmp_path / "clean.jsonl"
    assert hinlap_here("data", "check", train, "--fix", out, "--mask").returncode == 0
    assert "Write to [email] for help." in [row["output"] for row in lines(out)]
    again = hinlap_here("data", "check", out, "--fail-on", "duplicates,answers,personal")
    assert again.returncode == 0, again.stdout


def test_remove_and_keep(hinlap_here: Run, train: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    done = hinlap_here(
        "data", "check", train, "--fix", out, "--remove", "personal:email", "--keep", "duplicates"
    )
    assert done.returncode == 0, done.stderr
    removed = lines(tmp_path / "clean.jsonl.removed.jsonl")
    assert [(r["gate"], r["kind"]) for r in removed] == [
        ("answers", "boilerplate"),
        ("personal", "email"),
    ]
    assert MAIL not in (tmp_path / "clean.jsonl.removed.jsonl").read_text()


def test_fail_on(hinlap_here: Run, train: Path) -> None:
    assert hinlap_here("data", "check", train, "--fail-on", "answers:boilerplate").returncode == 1
    assert hinlap_here("data", "check", train, "--fail-on", "answers:cut,formats").returncode == 0


def test_json_and_page_show_no_personal_data_and_escape(
    hinlap_here: Run, train: Path, tmp_path: Path
) -> None:
    page, found = tmp_path / "check.html", tmp_path / "check.json"
    bad = GOOD[2] | {"output": GOOD[2]["output"]}
    with train.open("a", encoding="utf-8") as file:
        file.write(json.dumps(bad) + "\n")
        file.write(json.dumps({"instruction": "สวัสดี", "input": "", "output": ""}) + "\n")
    done = hinlap_here("data", "check", train, "--page", page, "--json", found)
    assert done.returncode == 0, done.stderr
    content = json.loads(found.read_text(encoding="utf-8"))
    assert content["rows"] == 9
    counts = {gate["gate"]: gate["counts"] for gate in content["gates"]}
    assert counts["duplicates"]["copy"] == 2
    assert counts["answers"]["empty"] == 1
    text = page.read_text(encoding="utf-8")
    assert MAIL not in text
    assert MAIL not in found.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_an_app_is_a_test_set(hinlap_here: Run, small_app: Path, tmp_path: Path) -> None:
    test = lines(small_app / "data" / "test.jsonl")
    train = tmp_path / "train.jsonl"
    row = {"instruction": "Sum it up.", "input": test[0]["text"], "output": "Done."}
    train.write_text(json.dumps(row) + "\n", encoding="utf-8")
    done = hinlap_here("data", "check", train, "--against", small_app, "--fail-on", "overlap")
    assert done.returncode == 1
    assert "1  question" in done.stdout


def test_a_folder_of_benchmarks_is_one(hinlap_here: Run, tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "crows-pairs"
    folder.mkdir(parents=True)
    (folder / "crows_pairs_anonymized.csv").write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n"
        "0,The old man could not find his phone,The young man could not find his phone,stereo,age,"
        "[],a0,[]\n"
    )
    train = tmp_path / "train.jsonl"
    row = {"instruction": "The old man could not find his phone.", "input": "", "output": "Oh."}
    train.write_text(json.dumps(row) + "\n")
    done = hinlap_here("data", "check", train, "--against", folder.parent)
    assert "crows-pairs, 1 item: in 1 row" in done.stdout, done.stderr


def test_tokens_by_a_model(hinlap_here: Run, tiny_model: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    rows = [GOOD[0], {"instruction": "Say it.", "input": "", "output": "The harbour. " * 400}]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = hinlap_here(
        "data", "check", train, "--model", tiny_model, "--keep", "", "--fail-on", "lengths"
    )
    assert done.returncode == 1, done.stderr
    assert "1  too_long" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-on", "nothing"], "no gate 'nothing'"),
        (["--fail-on", "answers:nothing"], "no kind 'nothing'"),
        (["--mask"], "--fix OUT.jsonl"),
        (["--fix", "clean.txt"], ".jsonl"),
        (["--fix", "train.jsonl"], "would replace its original"),
        (["--fix", "test.jsonl"], "--overwrite"),
        (["--against", "absent.jsonl"], "absent.jsonl"),
        (["--against", "empty"], "no test items"),
        (["--model", "no-such-model-here"], "no model"),
        (["--map", "instruction"], "--map"),
    ],
)
def test_bad_input_is_told_and_nothing_written(
    hinlap: Run, train: Path, test_file: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    done = hinlap("data", "check", train.name, *arguments)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_bad_records_are_told_and_the_good_ones_checked(hinlap_here: Run, train: Path) -> None:
    with train.open("a") as file:
        file.write('{"instruction": "cut in the mid\n')
    done = hinlap_here("data", "check", train)
    assert done.returncode == 0
    assert "train.jsonl:8" in done.stdout


def test_no_row_at_all(hinlap_here: Run, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"instruction": 3, "input": "", "output": []}\n'))
    done = hinlap_here("data", "check", path)
    assert done.returncode == 2
    assert "train.jsonl.gz" in done.stderr
