"""Files of outputs scored: published figures, several references, ids, and files gone wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.core.errors import InputError, UserError
from hinlap.workflows.compare_runs import compare_runs
from hinlap.workflows.metric_file import read_metric
from hinlap.workflows.score_files import METRICS, Request, Scored, score_files

Score = Callable[..., Scored]
OF_TEXTS = [metric.name for metric in METRICS if "reference_field" in metric.knows]


@pytest.fixture
def score(tmp_path: Path) -> Score:
    """score("bleu", "a\\n", "b\\n", "second reference\\n", field="text")"""

    def run(name: str, predictions: str | bytes, *references: str | bytes, **more: Any) -> Scored:
        files = []
        for file, content in zip(("p", "r", "r2"), (predictions, *references), strict=False):
            path = tmp_path / file
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
            files.append(path)
        request = Request(predictions=files[0], references=tuple(files[1:]), **more)
        return score_files(name, request, interval=False)

    return run


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def items(scored: Scored) -> tuple[float | None, ...]:
    return tuple(scored.found.scores[0].items)


def test_lines_end_at_line_feeds_only_and_the_last_adds_none(score: Score) -> None:
    texts = "one\u2028half\nno\x85break\r\n\n"
    found = score("exact_match", texts, texts.removesuffix("\n") + "\n")
    assert items(found) == (1.0, 1.0, 1.0)
    assert found.found.scores[0].notes == {
        "empty predictions": 1,
        "empty references": 1,
        "items with control characters": 1,
    }


def test_gzip_and_a_byte_order_mark_are_read_by_content(score: Score) -> None:
    marked = b"\xef\xbb\xbfa b c d e\n"
    assert score("bleu", gzip.compress(marked), marked).found.scores[0].value == pytest.approx(100)


def test_several_references_are_files_or_lists(score: Score) -> None:
    assert items(score("exact_match", "a\nb\n", "x\nb\n", "a\ny\n")) == (1.0, 1.0)
    rows = jsonl({"t": ["x", "a"]}, {"t": "b"})
    assert items(score("exact_match", "a\nb\n", rows, reference_field="t")) == (1.0, 1.0)


def test_rows_are_matched_by_id_wherever_they_stand(score: Score) -> None:
    wanted = jsonl({"id": 1, "t": "a", "page": "x"}, {"id": 2, "t": "b", "page": "y"})
    said = jsonl({"id": 2, "t": "b"}, {"id": 1, "t": "no"})
    found = score("exact_match", said, wanted, field="t", ids="id", clusters="page")
    assert items(found) == (0.0, 1.0)
    assert found.found.ids == ("1", "2")
    assert found.found.clusters == ("x", "y")
    assert items(score("exact_match", said, wanted, field="t")) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("predictions", "references", "more", "message"),
    [
        ("a\nb\n", "a\n", {}, r"r:2: .*p has 2 items and .*r has 1: nothing goes with line 2 of"),
        ("", "a\n", {}, "p: the file is empty"),
        (b"a\nb\xff\n", "a\n", {}, "p:2: not UTF-8: byte 0xff"),
        (b"\xff\xfea\0", "a\n", {}, "iconv -f UTF-16"),
        (b"\xed\xa0\x80\n", "a\n", {}, "p:1: not UTF-8"),
        (b"\x1f\x8bbroken", "a\n", {}, "p: the gzip data is broken"),
        ('{"t": "a"}\n', "a\n", {}, "p:1: it holds JSON objects.*\n.*--field NAME, one of: 't'"),
        ('{"t": "a"}\n{"u": 1}\n', "a\nb\n", {"prediction_field": "t"}, "p:2: there is no field"),
        ('{"t": 3}\n', "a\n", {"prediction_field": "t"}, "p:1: 't' is the value 3, not a text"),
        ('{"t": null}\n', "a\n", {"prediction_field": "t"}, "p:1: 't' is null, not a text"),
        ('{"t": ["a"]}\n', "a\n", {"prediction_field": "t"}, "p:1: 't' is a list, not a text"),
        ('{"t": "a"\n', "a\n", {"prediction_field": "t"}, "p:1: not JSON: .* at column"),
        ("[1]\n", "a\n", {"prediction_field": "t"}, "p:1: a list where a JSON object is meant"),
        ('{"t":""}\n\n{"t":""}', "a\n", {"prediction_field": "t"}, "p:2: an empty line between"),
        ("\n\n", "a\n", {"prediction_field": "t"}, "p: there are no rows"),
        ("a\n", '{"t": []}\n', {"reference_field": "t"}, "r:1: 't' is an empty list"),
        ("a\n", '{"t": [1]}\n', {"reference_field": "t"}, "r:1: 't' is a list of no texts"),
        ("a\n", "a\n", {"ids": "id"}, "--ids: no row has a field 'id'"),
        ("[" * 100_000, "a\n", {"prediction_field": "t"}, "p:1: not JSON that can be read"),
    ],
)
def test_a_file_gone_wrong_is_told_with_its_line(
    score: Score, predictions: str | bytes, references: str, more: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score("chrf", predictions, references, **more)


def test_ids_that_stand_twice_or_on_one_side_only_are_told(score: Score) -> None:
    one, two = {"id": "a", "t": ""}, {"id": "b", "t": ""}
    for said, message in (
        (jsonl(one, one), "p:2: the id 'a' stands at line 1 already"),
        (jsonl(one), r"r:2: 1 of its 2 ids are not in .*p, such as 'b'"),
        (jsonl(one, two, {"id": 3, "t": ""}), r"p:3: 1 of its 3 ids are not in .*r, such as '3'"),
        (jsonl(one, {"t": ""}), "p:2: no 'id'"),
        (jsonl(one, {"id": None, "t": ""}), "p:2: 'id' is null, not a name"),
    ):
        with pytest.raises(InputError, match=message):
            score("chrf", said, jsonl(one, two), field="t", ids="id")


def test_a_folder_is_no_file_and_a_file_must_be_there(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "it is a folder"), (tmp_path / "no", "there is no such file")):
        for name in ("bleu", "squad"):
            with pytest.raises(InputError, match=message):
                score_files(name, Request(predictions=path, references=(path,)))


@pytest.mark.parametrize("name", OF_TEXTS)
def test_characters_that_nobody_sees_are_counted_by_every_metric(score: Score, name: str) -> None:
    found = score(name, '{"t": "\\ud800 a \\u0000"}', '{"t": "\\ud800 a"}', field="t").found
    for scores in found.scores:
        assert scores.notes["items with control characters"] == 1
        assert scores.notes["items with lone surrogates"] == 1


@pytest.mark.parametrize("name", OF_TEXTS)
def test_empty_texts_are_counted_by_every_metric(score: Score, name: str) -> None:
    for scores in score(name, "\na b c d\n", "\na b c d\n").found.scores:
        assert sum(n for what, n in scores.notes.items() if "predictions" in what) == 1
        assert sum(n for what, n in scores.notes.items() if "references" in what) == 1


def test_an_unknown_metric_names_the_nearest() -> None:
    for name, near in (("bleau", "did you mean bleu?"), ("Rouge3", "rouge"), ("zzz", "they are:")):
        with pytest.raises(UserError, match=near):
            score_files(name, Request())


def test_names_are_known_in_any_case(score: Score) -> None:
    for name in ("BLEU", "chrF++", "rougeLSUM", "Token-F1", "exact-match"):
        assert score(name, "a b c d", "a b c d").found.scores[0].value in (1, pytest.approx(100))


def test_an_option_of_another_metric_is_refused(score: Score) -> None:
    with pytest.raises(UserError, match="bleu has no option --stem, which is for rouge1"):
        score("bleu", "a", "a", stem=True)
    with pytest.raises(UserError, match="perplexity has no option --predictions"):
        score("perplexity", "a", "a")
    with pytest.raises(UserError, match="perplexity needs --model and --text"):
        score_files("perplexity", Request())
    with pytest.raises(UserError, match="segmentations are: auto"):
        score("rouge", "a", "a", segmentation="klingon")
    with pytest.raises(UserError, match="--threshold is for no-answer"):
        score("squad", "a", "a", threshold=0.5)
    with pytest.raises(UserError, match="one file of questions"):
        score("squad", "a", "a", "a")


def test_every_metric_agrees_with_its_row_in_the_table(score: Score) -> None:
    for metric in METRICS:
        if metric.name in OF_TEXTS:
            for scores in score(metric.name, "a b c d\n", "a b c d\n").found.scores:
                assert scores.higher_is_better == metric.higher_is_better
                assert scores.n == 1


def test_a_system_that_strays_into_another_script_stays_comparable(
    score: Score, tmp_path: Path
) -> None:
    for name in ("rouge", "token_f1", "bleu"):
        for file, said in (("a", "the cat\na dog\n"), ("b", "the cat\nช้าง กินกล้วย\n")):
            score(name, said, "the cat\nthe dog\n").write(tmp_path / f"{file}.json")
        compare_runs([tmp_path / "a.json", tmp_path / "b.json"])


@pytest.mark.parametrize("name", OF_TEXTS)
def test_what_is_written_is_read_back_as_it_was(score: Score, tmp_path: Path, name: str) -> None:
    found = score(name, "the cat sat\n\nx y z w\n", "the cat\na\nx y z w\n")
    found.write(tmp_path / "out.json")
    back = read_metric(tmp_path / "out.json").scores
    for scores in found.found.scores:
        assert back[scores.name].value == scores.value
        assert back[scores.name].items == scores.items


def test_other_references_are_not_compared(score: Score, tmp_path: Path) -> None:
    score("chrf", "a\nb\n", "a\nb\n").write(tmp_path / "a.json")
    score("chrf", "a\nb\n", "a\nc\n").write(tmp_path / "b.json")
    with pytest.raises(InputError, match="different references"):
        compare_runs([tmp_path / "a.json", tmp_path / "b.json"])


def test_notes_stay_with_all_items_only(score: Score) -> None:
    scores = score("chrf", "a\n\n", "a\nb\n").found.scores[0]
    assert scores.subset([1, 0]).notes == scores.notes == {"empty predictions": 1}
    assert scores.subset([0]).notes == {}
    assert scores.subset([0, 0]).notes == {}
