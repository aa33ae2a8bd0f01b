"""Files that are not what they should be: told with file and place, or counted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.core.errors import InputError
from hinlap.workflows.score_squad import score_squad


def squad_json(*questions: tuple[str, list[str]], **more: Any) -> str:
    qas = [{"id": i, "answers": [{"text": t} for t in texts]} for i, texts in questions]
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"qas": qas}]}], **more})


GOOD = squad_json(("a", ["x"]), ("b", ["y"]))
Score = Callable[..., Any]


@pytest.fixture
def score(tmp_path: Path) -> Score:
    def run(predictions: str | bytes, references: str | bytes, **options: Any) -> Any:
        for name, content in (("p.json", predictions), ("r.json", references)):
            raw = content if isinstance(content, bytes) else content.encode("utf-8")
            (tmp_path / name).write_bytes(raw)
        if "no_answer" in options:
            (tmp_path / "n.json").write_text(options["no_answer"])
            options["no_answer"] = tmp_path / "n.json"
        return score_squad(tmp_path / "p.json", tmp_path / "r.json", **options)

    return run


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("[1]", GOOD, "p.json: it holds a list"),
        ('{"a": 3}', GOOD, "p.json: the answer of 'a' is the value 3, not a text"),
        ('{"a": null}', GOOD, "the answer of 'a' is null"),
        ('{"a": "x", "a": "y"}', GOOD, "p.json: the id 'a' stands there twice"),
        ('{"a": "x"', GOOD, "p.json:1:10: not JSON"),
        ("", GOOD, "p.json:1:1: not JSON"),
        (b'{"a": "\xff"}', GOOD, "p.json:1: not UTF-8: byte 0xff"),
        (b"\x1f\x8bbroken", GOOD, "p.json: the gzip data is broken"),
        (gzip.compress(b'{"a": "x"}' * 99)[:-12], GOOD, "p.json: the gzip data is broken"),
        ("[" * 100_000, GOOD, "nested too deeply"),
        ('{"z": "x"}', GOOD, "p.json: none of its 1 ids is a question's"),
        ("{}", GOOD, "p.json: none of its 0 ids is a question's"),
        ('{"a": "x"}', "[]", "r.json: not in SQuAD's format: no list 'data'"),
        ('{"a": "x"}', '{"data": [3]}', r"r.json: data\[0\]: .* no list 'paragraphs'"),
        ('{"a": "x"}', '{"data": [{"paragraphs": [{}]}]}', r"paragraphs\[0\]: .* no list 'qas'"),
        (
            '{"a": "x"}',
            '{"data": [{"paragraphs": [{"qas": [{"id": "a"}]}]}]}',
            r"qas\[0\]: .* no list 'answers'",
        ),
        (
            '{"a": "x"}',
            '{"data": [{"paragraphs": [{"qas": [{"id": 7, "answers": []}]}]}]}',
            r"qas\[0\]: .* no text 'id'",
        ),
        ('{"a": "x"}', squad_json(("a", ["x"]), ("a", ["y"])), r"qas\[1\]: the id 'a' stands at"),
    ],
)
def test_a_broken_file_is_told_with_its_place(
    score: Score, predictions: str | bytes, references: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(predictions, references)


def test_missing_and_unknown_predictions_are_counted(score: Score) -> None:
    found = score('{"a": "x", "other": "y"}', GOOD)
    assert (found.version, found.missing, found.unknown) == ("1.1", ("b",), ("other",))
    assert found.figures() == {"exact_match": 50.0, "f1": 50.0, "total": 2}


@pytest.mark.parametrize(
    ("references", "version"),
    [
        (GOOD, "1.1"),
        (squad_json(("a", ["x"]), version="1.1"), "1.1"),
        (squad_json(("a", ["x"]), version="v2.0"), "2.0"),
        (squad_json(("a", ["x"]), ("b", [])), "2.0"),
    ],
)
def test_the_version_is_the_files(score: Score, references: str, version: str) -> None:
    assert score('{"a": "x"}', references).version == version


def test_version_and_questions_must_go_together(score: Score) -> None:
    both = squad_json(("a", ["x"]), ("b", []))
    with pytest.raises(InputError, match=r"'b' has no answers, which version 1\.1"):
        score('{"a": "x"}', both, version="1.1")
    with pytest.raises(InputError, match=r"belong to version 2\.0"):
        score('{"a": "x"}', GOOD, no_answer="{}")
    assert score('{"a": "x"}', GOOD, version="2.0").figures()["HasAns_total"] == 1


def test_no_answer_probabilities_are_checked(score: Score) -> None:
    both = squad_json(("a", ["x"]), ("b", []))
    for given, message in (
        ('{"b": 1}', "question 'a' has an answer and no probability"),
        ('{"a": "much"}', "the probability of 'a' is a text"),
        ('{"a": NaN}', "the probability of 'a' is the value nan"),
        ('{"a": true}', "the probability of 'a' is the value True"),
    ):
        with pytest.raises(InputError, match=message):
            score('{"a": "x"}', both, no_answer=given)
    assert score('{"a": "x"}', both, no_answer='{"a": 0.1}').figures()["best_f1"] == 100.0


def test_an_article_without_title_is_a_cluster_of_its_own(score: Score) -> None:
    untitled = GOOD.replace('"title": "T", ', "")
    assert {q.article for q in score('{"a": "x"}', untitled).questions} == {"data[0]"}
    assert {q.article for q in score('{"a": "x"}', GOOD).questions} == {"T"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        score_squad(tmp_path / "p.json", tmp_path / "r.json")
