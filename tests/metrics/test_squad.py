"""SQuAD's figures against the published ones, and case by case against the official scripts."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.data.squad_file import read_squad
from hinlap.metrics.match import bag_f1, normal_answer, token_f1
from hinlap.metrics.squad import Question, Version, squad
from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.workflows.score_squad import read_answers, score_squad

SHARED = Path(__file__).parents[3] / "shared" / "data"
SQUAD = SHARED / "squad"
PUBLISHED: list[dict[str, Any]] = (
    json.loads((SQUAD / "reference_scores.json").read_text("utf-8"))["part"]
    if SQUAD.is_dir()
    else []
)


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda known: known["predictions"])
def test_equals_the_official_scripts_on_leaderboard_models(known: dict[str, Any]) -> None:
    version = known["version"].removeprefix("v")
    found = score_squad(SQUAD / known["predictions"], SQUAD / f"dev-v{version}.sample.json.gz")
    assert found.version == version
    assert len(found.missing) == known["missing_predictions"]
    figures = found.figures()
    keys = known.keys() - {"version", "model", "predictions", "missing_predictions"}
    assert {key: figures[key] for key in keys} == pytest.approx(
        {key: known[key] for key in keys}, abs=1e-12
    )
    assert found.f1.value == pytest.approx(known["f1"], abs=1e-9)
    assert "tok:spaces" in found.f1.signature


@pytest.mark.skipif(not SQUAD.is_dir(), reason="the shared SQuAD files are not here")
def test_equals_the_official_script_with_no_answer_probabilities(tmp_path: Path) -> None:
    """Numbers printed by evaluate-v2.0.py, run by hand on the same three files."""
    predictions = SQUAD / "predictions-v2.0-bert-single.json.gz"
    answers = json.loads(gzip.decompress(predictions.read_bytes()))
    probabilities = {
        i: round(((zlib.crc32(i.encode()) % 1000) / 1000 + 2 * (not a)) / 3, 2)
        for i, a in answers.items()
    }
    file = tmp_path / "na_prob.json"
    file.write_text(json.dumps(probabilities))
    found = score_squad(
        predictions, SQUAD / "dev-v2.0.sample.json.gz", no_answer=file, threshold=0.3
    )
    figures = found.figures()
    assert figures.pop("exact_match") == figures["exact"]
    assert figures == pytest.approx(PRINTED, abs=1e-12)
    assert "no-answer-above:0.3" in found.f1.signature


PRINTED = {
    "exact": 75.55438225976769,
    "f1": 78.03166280498793,
    "total": 7576,
    "HasAns_exact": 66.65793609219487,
    "HasAns_f1": 71.57356663451738,
    "HasAns_total": 3818,
    "NoAns_exact": 84.59286854709953,
    "NoAns_f1": 84.59286854709953,
    "NoAns_total": 3758,
    "best_exact": 77.96990496304119,
    "best_exact_thresh": 0.33,
    "best_f1": 80.61215557913253,
    "best_f1_thresh": 0.33,
}


def one(prediction: str, answers: tuple[str, ...], version: Version = "1.1") -> tuple[float, float]:
    found = squad([Question("q", answers)], {"q": prediction}, version=version)
    return found.exact.items[0], found.f1.items[0]


# what the scripts give, read off by hand
@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Broncos!", ("broncos",), 100.0, 100.0),
        ("Denver", ("Denver Broncos", "the Broncos"), 0.0, 200 / 3),
        ("a", ("the",), 100.0, 0.0),  # both empty once normalised: 1.1 finds no common word
        ("", ("x",), 0.0, 0.0),
        ("x x y", ("x y y",), 0.0, 200 / 3),
        ("U.S.A.", ("USA",), 100.0, 100.0),
        ("co-operate", ("co operate",), 0.0, 0.0),  # punctuation joins what it stood between
        ("“quoted”", ("quoted",), 0.0, 0.0),  # only ASCII punctuation falls away
        ("theatre an", ("theatre",), 100.0, 100.0),
        ("tab\tnew\nline", ("tab new line",), 100.0, 100.0),
        ("a\u0000b \ud800", ("a\u0000b \ud800",), 100.0, 100.0),
    ],
)
def test_case_by_case(prediction: str, answers: tuple[str, ...], exact: float, f1: float) -> None:
    assert one(prediction, answers) == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("prediction", "answers", "value"),
    [
        ("", (), 100.0),
        ("the", (), 100.0),  # normalised away: as if no answer had been given
        ("x", (), 0.0),
        ("", ("x",), 0.0),
        ("", ("the",), 100.0),  # a reference without words counts as no answer
    ],
)
def test_no_answer_is_an_answer_in_version_2(
    prediction: str, answers: tuple[str, ...], value: float
) -> None:
    assert one(prediction, answers, "2.0") == (value, value)


QUESTIONS = [Question("a", ("x",), "one"), Question("b", ("y",), "one"), Question("c", (), "two")]


def test_a_missing_prediction_is_0_in_version_1_and_left_out_in_version_2() -> None:
    old = squad(QUESTIONS[:2], {"a": "x", "z": "?"}, version="1.1")
    assert old.figures() == {"exact_match": 50.0, "f1": 50.0, "total": 2}
    assert (old.missing, old.unknown, old.f1.n) == (("b",), ("z",), 2)
    assert old.f1.notes == {"questions without prediction": 1}
    new = squad(QUESTIONS, {"a": "x", "c": ""}, version="2.0")
    assert (new.figures()["f1"], new.figures()["total"], new.missing) == (100.0, 2, ("b",))
    assert [q.id for q in new.questions] == ["a", "c"]


def test_the_parts_with_and_without_answers() -> None:
    figures = squad(QUESTIONS, {"a": "x", "b": "no", "c": "z"}, version="2.0").figures()
    assert (figures["HasAns_exact"], figures["HasAns_total"]) == (50.0, 2)
    assert (figures["NoAns_f1"], figures["NoAns_total"]) == (0.0, 1)


def test_a_part_without_questions_has_no_figures() -> None:
    assert "NoAns_f1" not in squad(QUESTIONS[:2], {"a": "x"}, version="2.0").figures()


def test_no_questions_is_undefined_not_zero() -> None:
    for version in ("1.1", "2.0"):
        found = squad([], {}, version=version)
        assert found.f1.value is None
        assert found.figures()["f1"] is None


def test_an_answer_less_likely_than_the_threshold_is_taken_back() -> None:
    answers, doubts = {"a": "x", "b": "y", "c": "?"}, {"a": 0.1, "b": 0.6, "c": 0.9}
    found = squad(QUESTIONS, answers, version="2.0", no_answer=doubts, threshold=0.5)
    assert found.exact.items == (100.0, 0.0, 100.0)
    assert found.best is not None
    assert (found.best.exact, found.best.exact_threshold) == (100.0, 0.6)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        squad([QUESTIONS[0]] * 2, {}, version="1.1")
    with pytest.raises(ValueError, match="question c has no answers"):
        squad(QUESTIONS, {}, version="1.1")
    with pytest.raises(ValueError, match="question a has no no-answer probability"):
        squad(QUESTIONS, {"a": "x"}, version="2.0", no_answer={})


def test_all_right_is_not_certain() -> None:
    questions = [Question(str(i), ("x",)) for i in range(10)]
    exact = squad(questions, {q.id: "x" for q in questions}, version="1.1").exact
    found = bootstrap_interval(exact.stats, exact.reduce, seed=0, share=exact.share)
    assert (found.low, found.high) == pytest.approx((72.25, 100.0), abs=1e-2)


# -- text without spaces


def test_thai_words_overlap_although_no_space_parts_them() -> None:
    thai = [Question("q", ("ช้างกินกล้วย",))]
    found = squad(thai, {"q": "ช้างกินอ้อย"}, version="1.1")
    assert found.f1.items[0] == pytest.approx(200 / 3)
    assert "newmm-pythainlp-" in found.f1.signature
    official = squad(thai, {"q": "ช้างกินอ้อย"}, version="1.1", segmentation="official")
    assert official.f1.items[0] == 0.0
    assert "tok:spaces" in official.f1.signature


def test_some_answers_in_another_script_leave_an_english_set_official() -> None:
    mixed = [Question("a", ("北京",)), Question("b", ("Paris",)), Question("c", ("Rome",))]
    found = squad(mixed, {"a": "北 京", "b": "Paris", "c": "Rome"}, version="1.1")
    assert found.f1.items == (0.0, 100.0, 100.0)
    assert "tok:spaces" in found.f1.signature


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared files are not here")
@pytest.mark.parametrize("language", ["th", "en"])
def test_xquads_own_answers_score_a_hundred(language: str) -> None:
    known = read_squad(SHARED / "thai-xquad" / f"xquad.{language}.sample.json.gz")
    right = {q.id: q.answers[0] for q in known.questions}
    found = squad(known.questions, right, version=known.version)
    assert (found.exact.value, found.f1.value) == (100.0, 100.0)
    assert ("newmm" in found.f1.signature) == (language == "th")
    # an answer with a word more than asked for: partly right in both languages
    longer = {i: ("และ" if language == "th" else "and ") + a for i, a in right.items()}
    found = squad(known.questions, longer, version=known.version)
    assert found.exact.value == pytest.approx(0.0, abs=1.0)
    assert found.f1.value is not None
    assert 70 < found.f1.value < 90


# -- token F1


def test_token_f1_takes_the_best_reference() -> None:
    scores = token_f1(["the black cat", ""], [["a dog", "black cats", "cat"], [""]])
    assert scores.items == pytest.approx((2 / 3, 1.0))
    assert scores.notes == {"empty predictions": 1, "empty references": 1}
    assert token_f1([], []).value is None


def test_token_f1_cuts_what_is_written_without_spaces() -> None:
    assert token_f1(["ช้างกินกล้วย"], [["ช้างกินอ้อย"]]).value == pytest.approx(2 / 3)
    assert token_f1(["北京大学"], [["北京"]]).value == pytest.approx(2 / 3)
    assert "newmm" in token_f1(["x"], [["ช้าง"]]).signature


@given(st.text(), st.text())
def test_bags_are_symmetric_and_bounded(one: str, other: str) -> None:
    a, b = normal_answer(one).split(), normal_answer(other).split()
    found = bag_f1(a, b, both_empty=1.0)
    assert found == pytest.approx(bag_f1(b, a, both_empty=1.0))
    assert 0.0 <= found <= 1.0
    assert (found == pytest.approx(1.0)) == (sorted(a) == sorted(b))


def test_answers_are_read_plain_or_gzipped(tmp_path: Path) -> None:
    plain, packed = tmp_path / "p.json", tmp_path / "p.json.gz"
    plain.write_text('{"a": "x"}')
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_answers(plain) == read_answers(packed) == {"a": "x"}
