"""``hinlap metrics`` as a user meets it, and the published figures it gives."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.workflows.score_files import METRICS

Run = Callable[..., Any]
DATA = Path(__file__).parents[3] / "shared" / "data"
WMT, SQUAD, FIXTURES = DATA / "wmt17-en-de", DATA / "squad", DATA / "metric-fixtures"
THAI = DATA / "thai-news" / "thaisum_sample.jsonl.gz"
shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared files are not here")


@pytest.fixture
def metrics(hinlap_here: Run, tmp_path: Path) -> Run:
    """metrics("bleu", ..., as_json="name") gives what --json wrote; else how the command ended."""

    def run(*arguments: str | Path, as_json: str = "") -> Any:
        file = tmp_path / as_json
        ended = hinlap_here("metrics", *arguments, *(["--json", file] if as_json else []))
        if not as_json:
            return ended
        assert ended.returncode == 0, ended.stderr
        return json.loads(file.read_text())

    return run


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_figure_comes_with_interval_n_signature_and_notes(metrics: Run, tmp_path: Path) -> None:
    said = write(tmp_path, "p", "the cat sat on the mat\nno dog\n\n")
    wanted = write(tmp_path, "r", "the cat sat on the mat\na dog\nbird\n")
    ended = metrics("rouge1", "--predictions", said, "--references", wanted)
    assert ended.returncode == 0, ended.stderr
    first, signature, note, few = ended.stdout.splitlines()
    assert first == "rouge1 ↑ 0.5 [0, 1] · 3 items"
    assert signature.startswith("  rouge1|f-measure|mean|stem:porter|tok:rouge-score|refs:1|")
    assert note == "note: predictions without words: 1"
    assert few == "note: an interval from so few items is unreliable: 3"
    ended = metrics("rouge1", "--predictions", said, "--references", wanted, "--no-interval")
    assert ended.stdout.startswith("rouge1 ↑ 0.5 · 3 items\n")
    assert "unreliable" not in ended.stdout


def test_few_clusters_are_told_however_many_the_items(metrics: Run, tmp_path: Path) -> None:
    rows = "".join(f'{{"t": "a b", "k": "{i % 5}"}}\n' for i in range(40))
    file = write(tmp_path, "p.jsonl", rows)
    files = ("--predictions", file, "--references", file, "--field", "t")
    ended = metrics("rouge1", *files, "--clusters", "k")
    assert ended.stdout.endswith("note: an interval from so few clusters is unreliable: 5\n")
    assert "unreliable" not in metrics("rouge1", *files).stdout


def test_a_sentence_level_prints_each_item(metrics: Run, tmp_path: Path) -> None:
    rows = '{"id": "x", "t": "a b"}\n{"id": "y", "t": ""}\n'
    file = write(tmp_path, "p.jsonl", rows)
    ended = metrics(
        "rouge1", "--predictions", file, "--references", file, "--field", "t", "--ids", "id",
        "--level", "sentence",
    )  # fmt: skip
    assert ended.stdout.startswith("item\trouge1\nx\t1\ny\t–\n\nrouge1 ↑ 1")


def test_json_holds_the_figure_its_items_and_the_parts(metrics: Run, tmp_path: Path) -> None:
    said, wanted = write(tmp_path, "p", "a cat\na dog\n"), write(tmp_path, "r", "a cat\nno\n")
    found = metrics("rouge", "--predictions", said, "--references", wanted, as_json="o.json")
    assert {"metric", "signature", "value", "low", "high", "n", "items"} <= found.keys()
    assert (found["metric"], found["value"], found["n"], found["items"]) == (
        "rouge1",
        0.5,
        2,
        [1, 0],
    )
    assert [part["metric"] for part in found["parts"]] == ["rouge2", "rougeL", "rougeLsum"]


def test_predictions_may_come_from_standard_input(
    metrics: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = write(tmp_path, "r", "a\nb\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    ended = metrics("exact_match", "--predictions", "-", "--references", wanted)
    assert ended.stdout.startswith("exact_match ↑ 1 ")
    ended = metrics("exact_match", "--predictions", "-", "--references", "-")
    assert "standard input can be read once only" in ended.stderr


def test_the_list_has_every_metric_in_a_line(metrics: Run) -> None:
    lines = metrics("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [metric.name for metric in METRICS]


def test_every_metric_and_option_is_in_the_docs(metrics: Run) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    for metric in METRICS:
        assert f"`{metric.name}`" in docs
        for option in metric.knows:
            assert f"--{option.replace('_', '-')}" in docs, option


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bleau", "--predictions", "p", "--references", "p"], "did you mean bleu?"),
        (["bleu", "--predictions", "p"], "bleu needs --references"),
        (["bleu", "--predictions", "p", "--references", "no"], "no: there is no such file"),
        (["bleu", "--predictions", "p", "--references", "."], "it is a folder"),
        (["bleu", "--predictions", "p", "--references", "p", "--stem"], "no option --stem"),
        (["bleu", "--predictions", "p", "--references", "p", "--tokenize", "x"], "no tokeniser"),
        (["bleu", "--predictions", "p", "--references", "p", "--json", "no/o"], "no such folder"),
        (["squad", "--predictions", "p", "--references", "p"], "not JSON"),
    ],
)
def test_what_cannot_be_scored_exits_with_2_and_says_what_to_do(
    metrics: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "p", "a\n")
    ended = metrics(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("  → ") == 1


def test_two_systems_go_on_to_compare_runs(metrics: Run, hinlap_here: Run, tmp_path: Path) -> None:
    words = [f"w{i} x{i} y{i} z{i} v{i}" for i in range(60)]
    wanted = write(tmp_path, "r", "\n".join(words))
    for name, text in (
        ("good", words),
        ("poor", [w.replace("x", "q") for w in words]),
        ("alike", [*words[:59], "other"]),
    ):
        said = write(tmp_path, name, "\n".join(text))
        metrics("bleu", "--predictions", said, "--references", wanted, as_json=f"{name}.json")
    for a, b, verdict in (
        ("poor", "good", "better"),
        ("good", "poor", "worse"),
        ("good", "alike", "not decisive"),
    ):
        ended = hinlap_here("compare-runs", tmp_path / f"{a}.json", tmp_path / f"{b}.json")
        assert f"{b}.json against {tmp_path / f'{a}.json'}: {verdict}" in ended.stdout


def test_perplexity_of_a_text_holds_all_its_figures(
    metrics: Run, tiny_model: Path, tmp_path: Path
) -> None:
    text = write(tmp_path, "t", "The harbour town counted its boats on Monday. " * 20)
    found = metrics(
        "perplexity", "--model", tiny_model, "--text", text, "--window", "64", "--stride", "32",
        as_json="o.json",
    )  # fmt: skip
    assert found["metric"] == "perplexity"
    assert "window:64|stride:32" in found["signature"]
    assert found["low"] <= found["value"] <= found["high"]
    assert [part["metric"] for part in found["parts"]] == [
        *("loss", "word_perplexity", "byte_perplexity", "bits_per_byte", "token_accuracy"),
    ]


def test_a_thai_text_without_spaces_has_every_figure_but_that_per_word(
    metrics: Run, tiny_model: Path, tmp_path: Path
) -> None:
    text = write(tmp_path, "t", "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้าและรถทุกคันหยุดรอ" * 20)
    options = ("--model", tiny_model, "--text", text, "--window", "64")
    found = metrics("perplexity", *options, as_json="o.json")
    per_word, *others = sorted(
        (found, *found["parts"]), key=lambda part: part["metric"] != "word_perplexity"
    )
    assert (per_word["value"], per_word["low"], set(per_word["items"])) == (None, None, {None})
    note = "items whose figure is too large for a number"
    assert per_word["notes"] == {note: per_word["n"]}
    assert all(part["low"] <= part["value"] <= part["high"] for part in others)
    assert (
        f"note: {note}: {per_word['n']} (word_perplexity)" in metrics("perplexity", *options).stdout
    )


@shared
def test_bleu_and_chrf_of_a_wmt_system_are_the_published_ones(metrics: Run) -> None:
    files = ("--predictions", WMT / "system.FBK.4870.de.txt.gz")
    files = (*files, "--references", WMT / "reference.de.txt.gz", "--no-interval")
    [known] = [
        s
        for s in json.loads((WMT / "reference_scores.json").read_text())["scores"]
        if s["system"] == "FBK.4870"
    ]
    found = metrics("bleu", *files, as_json="o.json")
    assert round(found["value"], 2) == known["bleu_mteval_v13a"]
    assert (found["n"], len(found["items"]), len(found["stats"])) == (3004, 3004, 3004)
    assert round(metrics("chrf", *files, as_json="o.json")["value"], 4) == known["chrf"]


@shared
@pytest.mark.parametrize("stem", [True, False])
def test_rouge_of_the_official_fixture_is_the_published_one(metrics: Run, stem: bool) -> None:
    files = ("--predictions", FIXTURES / "rouge155_prediction.txt")
    files = (*files, "--references", FIXTURES / "rouge155_target.txt")
    found = metrics("rouge", *files, "--stem" if stem else "--no-stem", as_json="o.json")
    by_name = {part["metric"]: part["items"] for part in (found, *found["parts"])}
    known = json.loads((FIXTURES / "rouge155_reference_scores.json").read_text())["lines"]
    checked = 0
    for line in known:
        for variant in ("rouge1", "rouge2", "rougeL"):
            if line["stemmer"] is stem and variant in line:
                assert by_name[variant][line["line"]] == pytest.approx(line[variant]["f"], abs=6e-6)
                checked += 1
    assert checked == (4 if stem else 6)


@shared
@pytest.mark.parametrize(
    ("version", "predictions"),
    [
        ("1.1", "predictions-v1.1-bert-ensemble.json.gz"),
        ("2.0", "predictions-v2.0-bert-single.json.gz"),
    ],
)
def test_squad_is_the_official_script_s(metrics: Run, version: str, predictions: str) -> None:
    [known] = [
        row
        for row in json.loads((SQUAD / "reference_scores.json").read_text())["part"]
        if row["predictions"] == predictions
    ]
    found = metrics(
        "squad", "--predictions", SQUAD / predictions,
        "--references", SQUAD / f"dev-v{version}.sample.json.gz", as_json="o.json",
    )  # fmt: skip
    assert found["exact_match"] == known.get("exact_match", known.get("exact"))
    assert found["value"] == pytest.approx(found["f1"])
    for key in ("f1", "total", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_total"):
        assert found.get(key) == (pytest.approx(known[key], abs=1e-9) if key in known else None)
    assert found["interval"]["clusters"] == len(set(found["clusters"])) > 20
    assert found["low"] < found["value"] < found["high"]


@shared
def test_thai_summaries_need_segmentation(metrics: Run) -> None:
    files = ("--predictions", THAI, "--references", THAI, "--ids", "id", "--no-interval")
    fields = ("--reference-field", "summary", "--prediction-field")
    auto, plain = (
        metrics("rougeL", *files, *fields, "summary", "--segmentation", how, as_json="o.json")
        for how in ("auto", "rouge-score")
    )
    assert auto["value"] == 1.0
    assert "thai:newmm-pythainlp-" in auto["signature"]
    assert plain["value"] < 0.8  # rouge-score sees Latin letters and digits only
    assert plain["notes"]["references without words"] == 35
    said, blind = (
        metrics("rougeL", *files, *fields, "seallm_7b_v2_output", "--segmentation", how,
                as_json="o.json")
        for how in ("auto", "rouge-score")
    )  # fmt: skip
    assert said["value"] > 2 * blind["value"]
