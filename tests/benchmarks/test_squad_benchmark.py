"""SQuAD as a benchmark: the prompt, exact match and F1 by hand, no answers, published scores."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_tiny_model

from hinlap.benchmarks.benchmark import Given, Item
from hinlap.benchmarks.squad import SQUAD, SQUAD_V2, solved
from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Silent
from hinlap.metrics.scores import Scores
from hinlap.stats.bootstrap import bootstrap_interval, wilson
from hinlap.workflows.bench import BenchOptions, BenchRun, find_benchmark, read_benchmark

CONTEXT = "The university was opened in 1816. Its library has two towers and a cat."


def content(version: str) -> dict[str, Any]:
    """Three questions of two articles; in 2.0 one of them has no answer."""

    def answers(*texts: str) -> list[dict[str, Any]]:
        return [{"text": text, "answer_start": CONTEXT.find(text)} for text in texts]

    last = answers() if version == "2.0" else answers("two")
    paragraphs = [
        {
            "context": CONTEXT,
            "qas": [
                {
                    "id": "q1",
                    "question": "When was it opened?",
                    "answers": answers("1816", "in 1816"),
                },
                {"id": "q2", "question": "What has the library?", "answers": answers("two towers")},
            ],
        }
    ]
    more = [{"context": CONTEXT, "qas": [{"id": "q3", "question": "How many?", "answers": last}]}]
    return {
        "version": version,
        "data": [
            {"title": "University", "paragraphs": paragraphs},
            {"title": "Towers", "paragraphs": more},
        ],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "squad").mkdir(parents=True)
    for version in ("1.1", "2.0"):
        text = json.dumps(content(version))
        (folder / f"squad/dev-v{version}.json").write_text(text, encoding="utf-8")
    return folder


def items(name: str, data: Path, **options: Any) -> list[Item]:
    return read_benchmark(find_benchmark(name), BenchOptions(data, **options), Silent())[2]


def answered(*answers: str | None) -> list[Given]:
    return [Given(answers=(answer,)) for answer in answers]


def values(found: Sequence[Scores]) -> dict[str, float | None]:
    return {each.name: each.value for each in found}


def test_the_prompt_is_the_peers(data: Path) -> None:
    assert items("squad", data)[0].question == (
        "Title: University\n\nBackground: The university was opened in 1816. Its library has two "
        "towers and a cat.\n\nQuestion: When was it opened?\n\nAnswer:"
    )


def test_figures_by_hand(data: Path) -> None:
    # exact; "the" and case do not count; one of two words, of which one is right
    found = SQUAD.measure(items("squad", data), answered(" 1816.", "The TWO towers", "two cats"))
    assert [each.name for each in found] == ["squad_exact_match", "squad_f1"]
    assert found[0].items == (100.0, 100.0, 0.0)
    assert found[1].items == pytest.approx((100.0, 100.0, 200 / 3))
    assert found[1].value == pytest.approx(800 / 9)


@pytest.mark.parametrize("said", ["unanswerable", " Unanswerable.", "", " \n"])
def test_no_answer_is_right_where_the_passage_does_not_tell(data: Path, said: str) -> None:
    found = values(SQUAD_V2.measure(items("squad-v2", data), answered(said, "two towers", said)))
    assert found == {
        "squad_v2_exact_match": pytest.approx(200 / 3),
        "squad_v2_has_answer_exact_match": 50.0,
        "squad_v2_no_answer_exact_match": 100.0,
        "squad_v2_f1": pytest.approx(200 / 3),
        "squad_v2_has_answer_f1": 50.0,
        "squad_v2_no_answer_f1": 100.0,
    }


def test_in_1_1_no_answer_is_wrong_and_unanswerable_is_a_word(data: Path) -> None:
    found = SQUAD.measure(items("squad", data), answered("", "unanswerable", "unanswerable two"))
    assert found[0].items == (0.0, 0.0, 0.0)
    assert found[1].items == pytest.approx((0.0, 0.0, 200 / 3))


def test_a_failed_answer_is_wrong_counted_and_never_the_right_no_answer(data: Path) -> None:
    found = SQUAD_V2.measure(items("squad-v2", data), answered(None, "two towers", None))
    assert values(found)["squad_v2_no_answer_exact_match"] == 0.0
    assert values(found)["squad_v2_exact_match"] == pytest.approx(100 / 3)
    assert all(each.notes == {"failed answers, scored as wrong": 2} for each in found)


def test_all_failed_is_zero_and_not_undefined(data: Path) -> None:
    found = SQUAD.measure(items("squad", data), answered(None, None, None))
    assert set(values(found).values()) == {0.0}


def test_a_part_without_questions_is_undefined(data: Path) -> None:
    some = items("squad-v2", data)[:2]
    found = values(SQUAD_V2.measure(some, answered("1816", "a cat")))
    assert found["squad_v2_no_answer_f1"] is None
    assert found["squad_v2_has_answer_exact_match"] == 50.0


def test_a_question_without_answers_is_solved_by_the_peers_word(data: Path) -> None:
    first, _, last = items("squad-v2", data)
    assert (solved(first).answer, solved(last).answer) == (" 1816", " unanswerable")


def test_a_file_of_2_0_is_told_from_1_1(data: Path) -> None:
    with pytest.raises(InputError, match="'q3' has no answers: this is SQuAD") as caught:
        items("squad", data / "squad/dev-v2.0.json")
    assert caught.value.hint == "hinlap bench squad-v2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"data"', '"rows"'), "this is not SQuAD: not in SQuAD's format"),
        ((CONTEXT, " "), "'q1' lacks its question or its context"),
        (('"id": "q2"', '"id": "q1"'), "the id 'q1' stands at"),
    ],
)
def test_another_file_is_refused(data: Path, change: tuple[str, str], said: str) -> None:
    file = data / "squad/dev-v1.1.json"
    file.write_text(file.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        items("squad", data)


@pytest.mark.parametrize("name", ["squad", "squad-v2"])
def test_from_files_to_figures(
    name: str, tiny_model: Path, data: Path, measured: Callable[..., BenchRun]
) -> None:
    done = measured(name, tiny_model, data)
    again = find_benchmark(name).measure(done.items, done.given)
    assert values(again) == {f.scores.name: f.scores.value for f in done.figures}
    assert all(len(given.answers) == 1 for given in done.given)
    assert all("\n" not in (given.answers[0] or "") for given in done.given)
    assert set(done.figures[0].groups) == {"University", "Towers"}


def test_shots_are_one_an_article_never_measured_and_the_same_for_every_model(
    tiny_model: Path, data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    _, how, kept = read_benchmark(SQUAD_V2, BenchOptions(data, shots=2), Silent())
    titles = {shot.question.split("\n")[0] for shot in how.shots}
    assert titles == {"Title: University", "Title: Towers"}
    assert len(kept) == 1
    other = make_tiny_model(tmp_path / "other", "gpt2", chat=True)
    runs = [measured("squad-v2", model, data, shots=2, chat=True) for model in (tiny_model, other)]
    assert [[item.id for item in run.items] for run in runs] == [[kept[0].id]] * 2
    with pytest.raises(UserError, match="leave none to measure"):
        items("squad-v2", data, shots=3)


def test_a_prompt_over_the_window_is_counted_as_failed(
    data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    narrow = make_tiny_model(
        tmp_path / "narrow", "llama", chat=False, more={"max_position_embeddings": 64}
    )
    done = measured("squad-v2", narrow, data)
    assert [given.answers for given in done.given] == [(None,)] * 3
    assert any(note.startswith("3 answers failed, such as:") for note in done.notes)
    assert {figure.scores.value for figure in done.figures} == {0.0}


@pytest.mark.parametrize(("version", "system"), [("1.1", "bert-ensemble"), ("2.0", "bert-single")])
def test_published_predictions_get_their_published_scores(
    version: str, system: str, shared: Path
) -> None:
    """Scores of the official scripts, as the data set's folder has them."""
    folder = shared / "squad"
    file = f"predictions-v{version}-{system}.json.gz"
    said = json.loads(gzip.decompress((folder / file).read_bytes()))
    scores = json.loads((folder / "reference_scores.json").read_text(encoding="utf-8"))
    (wanted,) = [part for part in scores["part"] if part["predictions"] == file]
    name = "squad" if version == "1.1" else "squad-v2"
    some = items(name, shared)
    found = values(find_benchmark(name).measure(some, answered(*(said[i.id] for i in some))))
    keys = {"squad_exact_match": "exact_match", "squad_f1": "f1"}
    if version == "2.0":
        keys = {
            f"squad_v2{part}_{kind}": f"{official}{'exact' if kind == 'exact_match' else 'f1'}"
            for part, official in (("", ""), ("_has_answer", "HasAns_"), ("_no_answer", "NoAns_"))
            for kind in ("exact_match", "f1")
        }
    assert len(some) == wanted["total"]
    for ours, official in keys.items():
        assert found[ours] == pytest.approx(wanted[official], abs=1e-9)


def test_no_answer_right_is_not_certainly_none() -> None:
    items = [Item(str(n), "a", question="q", facts={"answers": ["right"]}) for n in range(3)]
    exact = next(
        scores
        for scores in SQUAD.measure(items, [Given(answers=("wrong",))] * 3)
        if scores.name == "squad_exact_match"
    )
    found = bootstrap_interval(exact.stats, exact.reduce, seed=0, share=exact.share)
    assert found.low == 0.0
    assert found.high == pytest.approx(100 * wilson(0, 3)[1])
