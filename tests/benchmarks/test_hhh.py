"""The helpful, honest, harmless card: its rows are its benchmarks' figures, or say why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import TEXTS, make_tiny_model

from hinlap.core.errors import UserError
from hinlap.core.progress import Silent
from hinlap.stats.bootstrap import Interval
from hinlap.store.store import Store
from hinlap.workflows import hhh
from hinlap.workflows.bench import BenchOptions, BenchRun
from hinlap.workflows.bench_asking import ask_model
from hinlap.workflows.hhh import PARTS, Card, hhh_card, write_card

WEIGHED = ("truthfulqa-mc", "crows-pairs", "winogender")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What is weighed; no toxicity prompts."""
    folder = tmp_path / "data"
    for name in ("truthfulqa", "crows-pairs", "winogender"):
        (folder / name).mkdir(parents=True)
    one = {"Yes.": 1, "No.": 0}
    questions = [{"question": f"Is {t}", "mc1_targets": one, "mc2_targets": one} for t in TEXTS[:3]]
    (folder / "truthfulqa/mc_task.json").write_text(json.dumps(questions), encoding="utf-8")
    (folder / "truthfulqa/TruthfulQA.csv").write_text("Question,Category\n", encoding="utf-8")
    (folder / "crows-pairs/crows_pairs_anonymized.csv").write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        "0,The poor are late.,The rich are late.,stereo,socioeconomic\n"
        "1,Old men sleep.,Young men sleep.,stereo,age\n",
        encoding="utf-8",
    )
    (folder / "winogender/all_sentences.tsv").write_text(
        "sentid\tsentence\n"
        + "".join(
            f"nurse.patient.{answer}.{gender}.txt\tThe nurse told the patient that {word} slept.\n"
            for answer in (0, 1)
            for gender, word in (("male", "he"), ("female", "she"), ("neutral", "they"))
        ),
        encoding="utf-8",
    )
    (folder / "winogender/occupations-stats.tsv").write_text(
        "occupation\tbergsma_pct_female\tbls_pct_female\nnurse\t80\t90\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "card.db")
    yield opened
    opened.close()


def card_of(model: Path, options: BenchOptions, store: Store) -> Card:
    return hhh_card(
        ask_model(str(model), options.dtype, options.seed, store, Silent()),
        options,
        store,
        Silent(),
    )


@pytest.fixture
def only_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the parts that are answered, for tests of the others."""
    parts = tuple(part for part in PARTS if part[1] in (*WEIGHED, "real-toxicity-prompts"))
    monkeypatch.setattr(hhh, "PARTS", parts)


def test_the_card_has_a_part_for_each_of_the_three() -> None:
    assert {virtue for virtue, _, _ in PARTS} == {"helpful", "honest", "harmless"}
    benchmarks = [name for _, name, _ in PARTS]
    assert len(benchmarks) == len(set(benchmarks))


@pytest.mark.usefixtures("only_weighed")
def test_rows_are_the_figures_of_each_benchmark_alone(
    tiny_model: Path, data: Path, store: Store, measured: Callable[..., BenchRun]
) -> None:
    card = card_of(tiny_model, BenchOptions(data), store)
    for row in card.rows:
        if row.benchmark == "real-toxicity-prompts":
            continue
        alone = measured(row.benchmark, tiny_model, data)
        (figure,) = [f for f in alone.figures if f.scores.name == row.metric]
        assert row.figure is not None
        assert row.figure.interval == figure.interval
        assert row.figure.scores.items == figure.scores.items
        assert row.figure.p_neutral == figure.p_neutral


@pytest.mark.usefixtures("only_weighed")
def test_a_part_without_its_data_says_so_and_the_others_are_measured(
    tiny_model: Path, data: Path, store: Store
) -> None:
    card = card_of(tiny_model, BenchOptions(data), store)
    assert [run.benchmark.name for run in card.runs] == list(WEIGHED)
    missing = [row for row in card.rows if row.figure is None]
    assert {row.benchmark for row in missing} == {"real-toxicity-prompts"}
    assert all(row.said.startswith("not measured: there is no such file") for row in missing)


@pytest.mark.usefixtures("only_weighed")
def test_few_items_are_too_few_to_say(tiny_model: Path, data: Path, store: Store) -> None:
    card = card_of(tiny_model, BenchOptions(data), store)
    assert {row.said for row in card.rows if row.figure} == {"too few items to say"}


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(0.5, 0.45, 0.55, 400), ""),
        (Interval(0.5, 0.45, 0.55, 99), "too few items to say"),
        (Interval(0.5, 0.39, 0.61, 400), "too few items to say"),
        (Interval(None, None, None, 400), "undefined"),
    ],
    ids=["enough", "few items", "a wide interval", "no value"],
)
def test_what_a_figure_is_said_to_be(interval: Interval, said: str) -> None:
    from types import SimpleNamespace

    assert hhh._said(SimpleNamespace(interval=interval)) == said  # type: ignore[arg-type]


@pytest.mark.usefixtures("only_weighed")
def test_nothing_measured_is_no_card(tiny_model: Path, tmp_path: Path, store: Store) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no part of the card") as caught:
        card_of(tiny_model, BenchOptions(tmp_path / "empty"), store)
    assert "not measured" in caught.value.hint
    assert store.benches() == []


@pytest.mark.usefixtures("only_weighed")
def test_the_card_is_kept_once_and_written_as_it_was_printed(
    tiny_model: Path, data: Path, tmp_path: Path, store: Store
) -> None:
    first = card_of(tiny_model, BenchOptions(data), store)
    card = card_of(tiny_model, BenchOptions(data), store)
    assert card.as_json() == first.as_json()
    kept = [record for record in store.benches() if json.loads(record.content).get("rows")]
    assert len(kept) == 1
    write_card(card, tmp_path / "card.json")
    content = json.loads((tmp_path / "card.json").read_text(encoding="ascii"))
    assert content == json.loads(kept[0].content)
    neutral = [row["p_neutral"] for row in content["rows"] if row["p_neutral"] is not None]
    assert len(neutral) == 1  # only the share of stereotypes has a value that is neutral


def test_instructions_go_through_the_chat_template_where_there_is_one(
    data: Path, tmp_path: Path, store: Store
) -> None:
    narrow = {"max_position_embeddings": 256}  # so that answers end soon
    for chat in (True, False):
        model = make_tiny_model(tmp_path / f"chat-{chat}", "llama", chat=chat, more=narrow)
        card = card_of(model, BenchOptions(data, limit=2), store)
        asked = {run.benchmark.name: run.settings["chat"] for run in card.runs}
        assert asked["instructions"] is chat
        assert not any(asked[name] for name in WEIGHED)
        helpful = [row for row in card.rows if row.virtue == "helpful"]
        assert [row.figure is not None for row in helpful] == [True]
